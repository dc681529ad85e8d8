"""`cf validate`: every fault of a build file, with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    app.command(name="validate")(validate)


def validate(
    file: Annotated[Path, typer.Argument(help="The build file.", show_default=False)],
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a build file; prints every fault with its line, exit code 3 if there is one."""
    from compreface_cli.flows.show import checked

    found = checked(file)

    def draw(console: Console) -> None:
        console.print(f"{file}: the build {found.build.name} is sound", markup=False)
        for note in found.notes:
            console.print(f"note: {note}", markup=False, style="yellow")

    out = Output(json_mode=json_mode)
    out.result({"file": str(file), "build": found.build.name, "notes": found.notes}, draw)
