"""`cf prune`: removes what nothing uses any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.removal.things import Thing


def register(app: typer.Typer) -> None:
    app.command(name="prune")(prune)


def prune(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without a prompt.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be removed, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove images, environments, models and temporary files of cf that nothing uses.

    What an instance uses is kept, and what a build needs that can be started from this folder. Data
    are never removed.
    """
    from compreface_cli.removal import prune as removal

    out = Output(json_mode=json_mode)
    removed = removal.prune(out, yes=yes, dry_run=dry_run)
    document = {
        "change": "dry run" if dry_run else "removed",
        "removed": [thing.row() for thing in removed],
        "bytes": sum(thing.size or 0 for thing in removed),
    }
    out.result(document, lambda console: _draw(removed, console, dry_run=dry_run))


def _draw(removed: tuple[Thing, ...], console: Console, *, dry_run: bool) -> None:
    from compreface_cli.removal import things

    if not removed:
        lines = ["Nothing to remove: all that cf made here is in use."]
    else:
        total = things.size_words(sum(thing.size or 0 for thing in removed))
        head = "cf prune would remove (nothing was changed):" if dry_run else "removed:"
        lines = [head, *things.lines(removed), f"{total} at most: images share layers"]
    for line in lines:
        console.print(line, markup=False, highlight=False)
