"""`cf data delete`: removes an instance with its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.data.delete import Deleted


def run(
    instance: Annotated[str, typer.Argument(help="Name of the instance.")],
    confirm: Annotated[
        list[str] | None,
        typer.Option(
            "--confirm", metavar="NAME", help="Name of the instance, to confirm without a prompt."
        ),
    ] = None,
    no_backup: Annotated[
        bool, typer.Option("--no-backup", help="Make no backup: the data are lost.")
    ] = False,
    volume: Annotated[
        str | None,
        typer.Option(
            "--volume", metavar="VOLUME", help="Also remove this volume, which cf did not make."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be removed, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove an instance with its data, after a backup.

    Containers, volume, project folder with its passwords, and record. Run again, it continues an
    interrupted run.
    """
    from compreface_cli.data.delete import delete

    out = Output(json_mode=json_mode)
    deleted = delete(
        instance,
        out,
        confirmed=confirm or (),
        with_backup=not no_backup,
        volume=volume,
        dry_run=dry_run,
    )
    out.result(deleted.as_dict(), lambda console: _draw(deleted, console))


def _draw(deleted: Deleted, console: Console) -> None:
    from compreface_cli.removal import things

    if deleted.change == "dry run":
        text = ["cf data delete would remove (nothing was changed):"]
        text += [deleted.held.words] if deleted.held else []
        text += things.lines(deleted.removed)
        first = "a backup would be written first" if deleted.backs_up else "no backup is written"
        text.append(f"{first} (--no-backup leaves it out)" if deleted.backs_up else first)
    else:
        text = [f"'{deleted.instance}' is removed"]
        if deleted.backup:
            text.append(f"Its data are in {deleted.backup}; `cf data restore` brings them back.")
    for line in text:
        console.print(line, markup=False, highlight=False)
