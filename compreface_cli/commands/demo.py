"""`cf demo`: runs two bundled portraits through the running engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.models.entry import Border
    from compreface_cli.photos.demo import DemoResult


def register(app: typer.Typer) -> None:
    app.command(name="demo")(demo)


def demo(
    instance: Annotated[
        str | None,
        typer.Option("--instance", metavar="NAME", help="Instance to use, if several run."),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Address of an engine that cf did not start."),
    ] = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Run two bundled portraits through the engine and show the results."""
    from compreface_cli.photos import compare, scan
    from compreface_cli.photos.demo import run

    out = Output(json_mode=json_mode)
    with out.waiting("Waiting for the engine's answers"), scan.client_of(instance, url) as client:
        shown = run(client)
    border = compare.border_of(shown.engine, instance, url)
    out.result(_document(shown), lambda console: _draw(shown, border, console))


def _document(shown: DemoResult) -> dict[str, Any]:
    return {
        "engine": shown.engine.url,
        "calculator": shown.engine.calculator,
        "faces": [{"picture": name, **face} for name, face in shown.faces],
        "likenesses": [
            {"a": likeness.first, "b": likeness.second, "similarity": likeness.similarity}
            for likeness in shown.likenesses
        ],
    }


def _draw(shown: DemoResult, border: Border | None, console: Console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from compreface_cli.photos import faces
    from compreface_cli.photos.compare import scale
    from compreface_cli.terminal.tables import print_trimmed

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("photograph")
    table.add_column("box  x, y - x, y")
    table.add_column("sure", justify="right")
    columns = faces.columns((face for _, face in shown.faces), ("age", "gender"))
    for heading in columns:
        table.add_column(heading)
    for name, face in shown.faces:
        attributes = (Text(text_of(face)) for text_of in columns.values())
        table.add_row(name, faces.edges(face), faces.sure(face), *attributes)
    print_trimmed(console, table)
    console.print()
    likenesses = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    likenesses.add_column("one")
    likenesses.add_column("the other")
    likenesses.add_column("similarity", justify="right")
    for likeness in shown.likenesses:
        style = "green" if border and likeness.similarity >= border.at else ""
        likenesses.add_row(
            likeness.first, likeness.second, Text(f"{likeness.similarity:.3f}", style=style)
        )
    print_trimmed(console, likenesses)
    console.print(scale(f"{shown.engine.calculator} at {shown.engine.url}", border), markup=False)
