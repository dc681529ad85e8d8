"""`cf export`: writes a build into one file for others."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.commands.build_flags import AcceptLicence
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    app.command(name="export")(export)


def export(
    build: Annotated[
        str, typer.Argument(help="Name of a build, or path of its file.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="File to write.", show_default=False),
    ],
    with_models: Annotated[
        bool,
        typer.Option(
            "--with-models", help="Put the models' files in, for a machine without network access."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    accept_licence: AcceptLicence = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write a build into one file for others, who keep it with `cf import`.

    The file has the build file, and sources and hashes of the models; with --with-models the models
    too.
    """
    from compreface_cli.sharing import export as sharing

    out = Output(json_mode=json_mode)
    done = sharing.export(
        build,
        output,
        out,
        with_models=with_models,
        force=force,
        accept_licence=accept_licence or None,
    )
    document = {
        "build": done.manifest.build,
        "path": str(done.path.absolute()),
        "sha256": done.sha256,
        "bytes": done.size,
        "models": [model.entry.name for model in done.manifest.models],
        "files": [
            {"path": path, "sha256": inside.sha256, "bytes": inside.bytes}
            for path, inside in done.manifest.files.items()
        ],
    }

    def draw(console: Console) -> None:
        for line in (
            f"{done.manifest.build} is in {done.path} ({done.size} bytes)",
            f"  SHA-256 {done.sha256}",
            f"  model files inside: {len(done.manifest.files)}",
            "On the other machine:",
            f"  cf import {shlex.quote(done.path.name)} --sha256 {done.sha256}",
        ):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    out.result(document, draw)
