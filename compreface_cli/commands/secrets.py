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
    api_keys: Annotated[
        bool,
        typer.Option(
            "--api-keys", help="Add new keys of the engine to the file that api_keys_file names."
        ),
    ] = False,
    drop_old: Annotated[
        bool,
        typer.Option("--drop-old", help="With --api-keys: remove the keys that were replaced."),
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
    """Replace the password of an instance's database, or the API keys of its engine.

    Without --api-keys it is the password: PostgreSQL, admin and api are restarted with a new one;
    engine and UI go on. A run that is cut off is completed by the next `cf secrets rotate` or `cf
    up`. New API keys are valid beside the old ones until --drop-old; no request fails.
    """
    from compreface_cli.errors import UsageError

    if (drop_old and not api_keys) or (api_keys and database):
        raise UsageError(
            "--drop-old is for --api-keys, and an instance has either keys or a database",
            hint="cf secrets rotate INSTANCE --api-keys --drop-old",
        )
    if api_keys:
        _rotate_keys(instance, Output(json_mode=json_mode), drop_old=drop_old, dry_run=dry_run)
    else:
        _rotate_password(instance, Output(json_mode=json_mode), dry_run=dry_run, timeout_s=timeout)


def _rotate_keys(instance: str | None, out: Output, *, drop_old: bool, dry_run: bool) -> None:
    from compreface_cli.deploy import key_rotation

    done = key_rotation.rotate(instance, out, drop_old=drop_old, dry_run=dry_run)
    name = done.record.name
    document = {
        "instance": name,
        "change": "dry run" if dry_run else "rotated",
        "secrets": ["api_keys"],
        "file": str(done.file),
        "valid": done.valid,
        "old": done.old,
        "restarted": [],
    }
    verb = "would accept" if dry_run else "accepts" if done.running else "will accept"
    text = f"The engine of '{name}' {verb} {done.valid} keys, in {done.file}"
    if done.old:
        text += (
            f"\n  {done.old} of them are replaced; once all clients have new ones: "
            f"cf secrets rotate {name} --api-keys --drop-old"
        )
    out.result(document, lambda console: console.print(text, markup=False, highlight=False))


def _rotate_password(
    instance: str | None, out: Output, *, dry_run: bool, timeout_s: float | None
) -> None:
    from compreface_cli.deploy import rotation
    from compreface_cli.plan.operations import away_words

    done = rotation.rotate(instance, out, dry_run=dry_run, timeout_s=timeout_s)
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
