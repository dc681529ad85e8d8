"""`cf compare`: the similarity of the faces in two or more photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from compreface_cli.models.entry import Border
    from compreface_cli.photos.compare import Pair
    from compreface_cli.photos.scan import Engine, ScanResult


def register(app: typer.Typer) -> None:
    app.command(name="compare")(compare)


def compare(
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO", help="Two or more pictures.")],
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
    """Compare the faces in photographs. Exit code 1 if a picture has no face or failed."""
    from compreface_cli.errors import UsageError
    from compreface_cli.photos import compare as comparison
    from compreface_cli.photos import pictures, scan

    out = Output(json_mode=json_mode)
    gathered = pictures.gather(photos)
    if len(gathered.pictures) < 2:
        if gathered.empty:
            raise pictures.no_picture_in(gathered.empty)
        raise UsageError("cf compare needs at least two pictures", hint="Name another one.")
    for name_and_reason in gathered.skipped:
        out.note(f"skipped {name_and_reason}")
    for name in gathered.empty:
        out.note(f"no picture in {name}")
    with scan.client_of(instance, url) as client:
        engine = scan.describe(client)
        if len(gathered.pictures) == 2:
            with out.waiting("Waiting for the engine's answers"):
                results = list(scan.scan(client, gathered.pictures, ["calculator"]))
        else:
            count = len(gathered.pictures)
            with out.progress(f"scanning {count} pictures", count) as done:
                results = list(scan.scan(client, gathered.pictures, ["calculator"], done=done))
    border = comparison.border_of(engine, instance, url)
    pairs = comparison.compare(engine, results, border)
    remarks = comparison.remarks(results)
    out.result(
        _document(engine, border, results, pairs, remarks),
        lambda console: _draw(engine, border, results, pairs, remarks, console),
    )
    if any(result.error or not result.faces for result in results):
        raise typer.Exit(1)


def _document(
    engine: Engine,
    border: Border | None,
    results: Sequence[ScanResult],
    pairs: Sequence[Pair],
    remarks: Sequence[str],
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "engine": engine.url,
        "calculator": engine.calculator,
        "similarity_coefficients": list(engine.similarity),
        "border": asdict(border) if border else None,
        "pictures": [
            {
                "picture": result.picture.name,
                "faces": len(result.faces),
                "boxes": [face["box"] for face in result.faces],
                "error": result.error,
            }
            for result in results
        ],
        "pairs": [
            {
                "a": results[pair.a].picture.name,
                "b": results[pair.b].picture.name,
                "face_a": pair.face_a,
                "face_b": pair.face_b,
                "distance": pair.distance,
                "similarity": pair.similarity,
                "verdict": pair.verdict,
            }
            for pair in pairs
        ],
        "remarks": list(remarks),
    }


def _draw(
    engine: Engine,
    border: Border | None,
    results: Sequence[ScanResult],
    pairs: Sequence[Pair],
    remarks: Sequence[str],
    console: Console,
) -> None:
    from rich.text import Text

    from compreface_cli.photos.compare import scale
    from compreface_cli.terminal.tables import print_trimmed

    for text in remarks:
        console.print(Text(f"note: {text}", style="yellow"))
    if not pairs:
        console.print("nothing to compare", markup=False)
        return
    if len(results) == 2:
        _rows(results, pairs, console)
    else:
        _matrix(results, pairs, console)
    print_trimmed(console, Text(scale(engine.calculator, border)))


def _rows(results: Sequence[ScanResult], pairs: Sequence[Pair], console: Console) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from compreface_cli.photos.scan import short_names
    from compreface_cli.terminal.tables import print_trimmed

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("picture", overflow="fold")
    table.add_column("with", overflow="fold")
    if len(pairs) > 1:
        table.add_column("face", justify="right")
    table.add_column("similarity", justify="right", no_wrap=True)
    if any(pair.verdict for pair in pairs):
        table.add_column("verdict")
    short = short_names([result.picture.name for result in results])
    for pair in pairs:
        face = [str(pair.face_b + 1)] if len(pairs) > 1 else []
        names = [Text(short[at]) for at in (pair.a, pair.b)]
        verdict = [Text(pair.verdict, style=_style(pair))] if pair.verdict else []
        table.add_row(*names, *face, f"{pair.similarity:.3f}", *verdict)
    print_trimmed(console, table)


def _style(pair: Pair) -> str:
    return "green" if pair.verdict and pair.verdict.endswith("the same") else ""


def _matrix(results: Sequence[ScanResult], pairs: Sequence[Pair], console: Console) -> None:
    """A matrix with a column per picture; a list of pairs where the terminal is too narrow."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from compreface_cli.photos.scan import short_names
    from compreface_cli.terminal.tables import print_trimmed

    short = short_names([result.picture.name for result in results])
    with_face = [at for at, result in enumerate(results) if result.faces]
    if 20 + 6 * len(with_face) > console.width:
        _rows(results, pairs, console)
        return
    values = {(pair.a, pair.b): pair for pair in pairs}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("picture", overflow="fold")
    for at in with_face:
        table.add_column(str(at + 1), justify="right", no_wrap=True)
    for row in with_face:
        cells: list[Text] = []
        for column in with_face:
            pair = values.get((min(row, column), max(row, column)))
            cells.append(Text(f"{pair.similarity:.2f}", style=_style(pair)) if pair else Text("-"))
        table.add_row(Text(f"{row + 1}  {short[row]}"), *cells)
    print_trimmed(console, table)
