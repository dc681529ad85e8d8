"""`cf prune`: remove what nothing uses any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.removal.consent import Thing


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
    from compreface_cli.removal import prune as flow

    out = Output(json_mode=json_mode)
    found = flow.prune(out, yes=yes, dry_run=dry_run)
    document = {
        "change": "dry run" if dry_run else "removed",
        "removed": [one.row() for one in found],
        "bytes": sum(one.size or 0 for one in found),
    }
    out.result(document, lambda console: _draw(found, console, dry_run=dry_run))


def _draw(found: tuple[Thing, ...], console: Console, *, dry_run: bool) -> None:
    from compreface_cli.removal import consent

    if not found:
        told = ["Nothing: all that cf made here is in use."]
    else:
        total = consent.words(sum(one.size or 0 for one in found))
        head = "cf prune would remove (nothing was changed):" if dry_run else "removed:"
        told = [head, *consent.lines(found), f"{total} at most: images share layers"]
    for line in told:
        console.print(line, markup=False, highlight=False)
