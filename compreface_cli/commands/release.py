"""`cf release`: gives an adopted install back to upstream's own containers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.data.release import Release


def register(app: typer.Typer) -> None:
    app.command(name="release")(release)


def release(
    instance: Annotated[
        str, typer.Argument(help="Name of the adopted instance.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be done, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Give an adopted install back as it was."""
    from compreface_cli.data import release as deploy

    out = Output(json_mode=json_mode)
    done = deploy.release(instance, out, yes=yes, dry_run=dry_run)
    document = {
        "instance": done.instance,
        "change": "dry run" if done.dry_run else "released",
        "adopted_from": done.adopted.from_words,
        "volume": done.adopted.volume,
        **dataclasses.asdict(done.given_back),
        "commands": list(done.commands),
    }
    out.result(document, lambda console: _draw(done, console))


def _draw(done: Release, console: Console) -> None:
    given, adopted = done.given_back, done.adopted
    if done.dry_run:
        lines = [f"cf release would do this with '{done.instance}' (nothing was changed):"]
    else:
        lines = [f"'{done.instance}' is released; the volume {adopted.volume} is kept"]
    for word, names in (("started", given.started), ("stopped, as it was", given.stopped)):
        lines += [f"  {name}: {word}" for name in names]
    if done.commands:
        gone = ", ".join(given.gone) or "upstream's containers"
        lines.append(f"  gone: {gone}. These commands make them again:")
        if not done.commands[0].startswith("cd "):
            folder = adopted.moved_to or adopted.folder or "a folder"
            lines.append(
                f"  (first put upstream's docker-compose.yml and your .env into {folder}, and go "
                "there)"
            )
        lines += [f"    {command}" for command in done.commands]
    for line in lines:
        console.print(line, markup=False, highlight=False)
