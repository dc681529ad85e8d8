"""`cf data backup`: writes face data into one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console


def run(
    name: Annotated[
        str,
        typer.Argument(metavar="INSTANCE|VOLUME", help="Whose faces.", show_default=False),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write, or - for stdout; by default a new one below cf's data folder.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write all faces, subjects, services and users of an instance or a volume into one file.

    The instance may run and be in use meanwhile: the file has its data of one moment.
    """
    from compreface_cli.data import backup, backup_run

    out = Output(json_mode=json_mode)
    if output == "-":
        backup_run.to_stdout(name, out)
        return
    made = backup_run.to_file(name, Path(output) if output else None, out, force=force)

    def draw(console: Console) -> None:
        for line in backup.lines(made, name):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    out.result(backup.document(made), draw)
