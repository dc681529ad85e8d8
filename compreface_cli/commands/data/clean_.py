"""`cf data clean`: removes images that no face names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.data.clean import Cleaned


def run(
    instance: Annotated[str, typer.Argument(help="Name of the instance.")],
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove what is shown without a question.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be removed, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove the images that no face names any more.

    Deleting a subject, service or application in the UI leaves its photographs in the database. A
    database that a rollback has kept is removed as well.
    """
    from compreface_cli.data.clean import clean

    out = Output(json_mode=json_mode)
    cleaned = clean(instance, out, yes=yes, dry_run=dry_run)
    out.result(cleaned.as_dict(), lambda console: _draw(cleaned, console))


def _draw(cleaned: Cleaned, console: Console) -> None:
    from compreface_cli.data.clean import lines

    if cleaned.change == "nothing":
        text = [f"each of the {cleaned.images} images of '{cleaned.instance}' belongs to a face"]
    elif cleaned.change == "dry run":
        text = ["cf data clean would remove (nothing was changed):"]
        text += lines(cleaned)
    else:
        text = [f"removed {cleaned.removed} images of '{cleaned.instance}'"]
        text += [f"removed the database {name}" for name in cleaned.databases]
    for line in text:
        console.print(line, markup=False, highlight=False)
