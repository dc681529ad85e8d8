"""`cf render`: write a Compose project that runs without `cf`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    app.command(name="render")(render)


def render(
    folder: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write.")],
    build: Annotated[
        str | None,
        typer.Argument(help="A build's name or the path of its file.", show_default=False),
    ] = None,
    instance: Annotated[
        str | None, typer.Option("--instance", help="Name of the instance; else the build's.")
    ] = None,
    services: Annotated[
        str | None, typer.Option("--services", help="full: all five; core: the engine.")
    ] = None,
    port: Annotated[
        str | None, typer.Option("--port", help="Your door: the UI, or the engine alone.")
    ] = None,
    core_port: Annotated[
        str | None, typer.Option("--core-port", help="The engine's door beside the UI.")
    ] = None,
    bind: Annotated[
        str | None, typer.Option("--bind", help="Address the port binds to; else 127.0.0.1.")
    ] = None,
    no_models: Annotated[
        bool, typer.Option("--no-models", help="Leave the model files out.")
    ] = False,
    accept_hash: Annotated[
        list[str] | None,
        typer.Option("--accept-hash", metavar="MODEL=SHA256", help="Take this file for the model."),
    ] = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write a folder that builds and runs with plain `docker compose up -d`, without cf."""
    from compreface_cli.flows import render as flow
    from compreface_cli.models import accepted

    out = Output(json_mode=json_mode)
    done = flow.render(
        {
            "build": build,
            "instance": instance,
            "services": services,
            "port": port,
            "core_port": core_port,
            "bind": bind,
        },
        folder,
        out,
        with_models=not no_models,
        accept_hash=accepted.parse(accept_hash or ()),
    )
    document = {
        "build": done.plan.build,
        "instance": done.plan.instance,
        "folder": str(folder),
        "changed": done.written.changed,
        "removed": done.written.removed,
        "digest": done.digest,
        "missing_models": list(done.missing_models),
    }

    def draw(console: Console) -> None:
        def line(text: str) -> None:
            console.print(text, markup=False, highlight=False)

        changed = len(done.written.changed)
        line(f"{folder}: {changed} files written" if changed else f"{folder}: all is there already")
        for path in done.written.removed:
            line(f"  removed {path}")
        if done.missing_models:
            line("Without its prepared models the image cannot be built. There is no")
            for name in done.missing_models:
                line(f"  {folder / flow.MODELS / name}/")
            line("The same command without --no-models puts them there.")
            return
        line("Next:")
        line(f"  docker compose --project-directory {_pasted(folder)} up -d --wait")

    out.result(document, draw)


def _pasted(folder: Path) -> str:
    """The folder as a shell takes it, and as no program takes it for an option."""
    text = str(folder)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
