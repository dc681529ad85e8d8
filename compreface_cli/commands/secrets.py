"""`cf secrets`: where the passwords and keys of an instance are, and new ones for them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

Instance = Annotated[
    str | None,
    typer.Argument(help="Name of the instance; optional if there is only one.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    secrets = typer.Typer(
        help="List an instance's passwords and keys, and replace them.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    secrets.command(name="list")(list_secrets)
    secrets.command(name="rotate")(rotate)
    app.add_typer(secrets, name="secrets")


def list_secrets(
    instance: Instance = None,
    show: Annotated[
        str | None,
        typer.Option(
            "--show", metavar="NAME", help="Print the value of this one.", show_default=False
        ),
    ] = None,
    json_mode: Json = False,
) -> None:
    """List the secrets of an instance and the files that have them, without their values.

    The API keys of services in CompreFace's UI are in its database and are not listed.
    """
    from compreface_cli.inspect import secrets as inspection

    record, found = inspection.of(instance)
    out = Output(json_mode=json_mode)
    if show is not None:
        value = inspection.value_of(found, show, record.name)
        out.result(
            {"instance": record.name, "name": show, "value": value},
            lambda console: console.print(value, markup=False, highlight=False, soft_wrap=True),
        )
        return

    def draw(console: Console) -> None:
        for secret in found:
            line = f"{secret.name:<18} {secret.unchanged_since[:10]}  {secret.file}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            console.print(f"{'':<18} {secret.purpose}", markup=False, style="dim")
        if not found:
            console.print(f"'{record.name}' has no secrets", markup=False)

    rows = [dataclasses.asdict(secret) | {"file": str(secret.file)} for secret in found]
    for row in rows:
        del row["value"]
    out.result({"instance": record.name, "secrets": rows}, draw)


def rotate(
    instance: Instance = None,
    database: Annotated[
        bool, typer.Option("--database", help="Give the database a new password.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would be replaced and which services would be unavailable.",
        ),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1.0, help="Seconds to wait for the services."),
    ] = None,
    json_mode: Json = False,
) -> None:
    """Replace the password of an instance's database, while it runs or while it is stopped.

    PostgreSQL, admin and api are restarted with the new password; engine and UI go on. A run that
    is cut off is completed by the next `cf secrets rotate` or `cf up`.
    """
    from compreface_cli.deploy import rotation
    from compreface_cli.plan.operations import away_words

    out = Output(json_mode=json_mode)
    done = rotation.rotate(instance, out, dry_run=dry_run, timeout_s=timeout)
    document = {
        "instance": done.record.name,
        "change": "dry run" if dry_run else "rotated",
        "secrets": ["postgres_password"],
        "user": done.user,
        "file": str(done.file),
        "restarted": [] if dry_run else list(done.restarted),
        "away": [dataclasses.asdict(away) for away in done.away],
    }
    if dry_run:
        text = (
            f"cf secrets rotate {done.record.name} would do this (nothing was changed):\n"
            f"  a new password for the database's user {done.user}, in {done.file}\n"
            f"{away_words(done.away)}"
        )
    else:
        text = f"The database of '{done.record.name}' has a new password, in {done.file}"
        if done.restarted:
            text += f"\n  restarted with it: {', '.join(done.restarted)}"
    out.result(document, lambda console: console.print(text, markup=False, highlight=False))
