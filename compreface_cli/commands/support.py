"""`cf support`: writes one archive with what helps to find a fault."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    app.command(name="support")(support)


def support(
    instance: Annotated[
        str | None,
        typer.Argument(
            help="Name of the instance; optional if there is only one.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The archive to write.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write versions, plan, checks, state and logs into one archive, secrets struck out.

    Nothing is uploaded. The archive has no passwords, keys or tokens, and no names of subjects,
    embeddings or photographs.
    """
    from compreface_cli.inspect import support as inspection

    out = Output(json_mode=json_mode)
    made = inspection.make(instance, output, out, force=force)

    def draw(console: Console) -> None:
        for name, size in made.files.items():
            console.print(f"{size:>9}  {name}", markup=False, highlight=False)
        console.print(
            f"\n{made.path} ({made.size} bytes)\nNothing was uploaded. Secrets, names of subjects "
            f"and face data are struck out; read it before you pass it on:\n"
            f"  tar -xzf {made.path}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    document = {
        "path": str(made.path),
        "bytes": made.size,
        "files": [{"name": name, "bytes": size} for name, size in made.files.items()],
        "uploaded": False,
    }
    out.result(document, draw)
