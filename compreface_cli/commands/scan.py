"""`cf scan`: finds the faces in photographs with the running engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from compreface_cli.engine.client import EngineClient
    from compreface_cli.photos.pictures import Picture
    from compreface_cli.photos.scan import Engine, ScanResult


class Row(NamedTuple):
    """What is printed of a picture."""

    result: ScanResult
    drawn: Path | None
    problem: str | None  # why it was not drawn


def register(app: typer.Typer) -> None:
    app.command(name="scan")(scan)


def scan(
    photos: Annotated[
        list[str],
        typer.Argument(metavar="PHOTO", help="Pictures, folders of them, or - for stdin."),
    ],
    draw: Annotated[
        Path | None,
        typer.Option(
            "--draw",
            metavar="OUT",
            help="Save the picture with its faces drawn; a folder for several pictures.",
        ),
    ] = None,
    plugins: Annotated[
        str | None,
        typer.Option(
            "--plugins",
            metavar="LIST",
            help="Use only these plugins of the engine, such as age,gender; none: boxes alone, the "
            "fastest. All of them if absent.",
        ),
    ] = None,
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
    """Find the faces in photographs. Exit code 1 if a picture could not be scanned or drawn."""
    from compreface_cli.photos import scan as scanning
    from compreface_cli.photos.pictures import gather

    out = Output(json_mode=json_mode)
    gathered = gather(photos)
    pictures = gathered.pictures
    for name_and_reason in gathered.skipped:
        out.note(f"skipped {name_and_reason}")
    for name in gathered.empty:
        out.note(f"no picture in {name}")
    into_folder = len(pictures) > 1 or any(Path(photo).is_dir() for photo in photos)
    targets = scanning.targets(pictures, draw, into_folder) if draw else [None] * len(pictures)
    rows: list[Row] = []
    with scanning.client_of(instance, url) as client:
        engine = scanning.describe(client)
        chosen = scanning.chosen(engine, plugins)
        results = _results(out, client, pictures, chosen, keep_data=bool(draw))
        for result, target in zip(results, targets, strict=True):
            if target is None or result.error is not None:
                rows.append(Row(result, None, None))
                continue
            problem = scanning.draw(result, target)
            rows.append(Row(scanning.without_data(result), None if problem else target, problem))
    out.result(_document(engine, rows), lambda console: _draw(rows, console))
    if any(row.result.error or row.problem for row in rows):
        raise typer.Exit(1)


def _results(
    out: Output,
    client: EngineClient,
    pictures: Sequence[Picture],
    plugins: Sequence[str],
    keep_data: bool,
) -> Iterator[ScanResult]:
    """The results in order; with a progress bar when there are several."""
    from compreface_cli.photos.scan import scan

    if len(pictures) == 1:
        with out.waiting("Waiting for the engine's answer"):
            yield from scan(client, pictures, plugins, keep_data=keep_data)
        return
    with out.progress(f"scanning {len(pictures)} pictures", len(pictures)) as advance:
        yield from scan(client, pictures, plugins, keep_data=keep_data, done=advance)


def _document(engine: Engine, rows: Sequence[Row]) -> dict[str, Any]:
    from compreface_cli.photos.scan import CUT_SHORT

    return {
        "engine": engine.url,
        "calculator": engine.calculator,
        "pictures": [
            {
                "picture": result.picture.name,
                "faces": list(result.faces),
                "error": result.error,
                "note": CUT_SHORT if result.cut_short else None,
                "drawn": str(drawn) if drawn else None,
                "drawing_error": problem,
            }
            for result, drawn, problem in rows
        ],
        "failed": sum(row.result.error is not None for row in rows),
    }


def _draw(rows: Sequence[Row], console: Console) -> None:
    from rich.text import Text

    from compreface_cli.photos.scan import CUT_SHORT, short_names
    from compreface_cli.terminal.tables import print_trimmed

    names = short_names([row.result.picture.name for row in rows])
    table, complete = _table(rows, names, console.width)
    print_trimmed(console, table)
    if not complete:
        console.print("the pose is left out: the terminal is too narrow; --json has it")
    for (result, _, problem), name in zip(rows, names, strict=True):
        if result.error:
            console.print(Text(f"{name} failed: {result.error}", style="red"))
        if result.cut_short:
            console.print(Text(f"{name} {CUT_SHORT}", style="yellow"))
        if problem:
            console.print(Text(f"{name}: {problem}", style="red"))
    faces = sum(len(row.result.faces) for row in rows)
    failures = sum(row.result.error is not None for row in rows)
    text = f"{_count(len(rows), 'picture')}, {_count(faces, 'face')}"
    console.print(text + (f", {failures} failed" if failures else ""), markup=False)
    drawn = [row.drawn for row in rows if row.drawn is not None]
    if len(drawn) == 1:
        console.print(f"drawn: {drawn[0]}", markup=False)
    elif drawn:
        console.print(f"drawn: {len(drawn)} pictures in {drawn[0].parent}", markup=False)


def _table(rows: Sequence[Row], names: Sequence[str], width: int) -> tuple[Table, bool]:
    """A table with a row per face, and a column for each optional value that some face has.

    Also whether it is complete: on a terminal that is too narrow, the pose is left out.
    """
    from rich import box
    from rich.table import Table

    from compreface_cli.photos import faces
    from compreface_cli.terminal.tables import NAME_WIDTH, needed_width

    full = faces.columns(face for row in rows for face in row.result.faces)
    slim = {heading: text_of for heading, text_of in full.items() if heading != faces.ANGLES}
    forms = ((full, 1, " - "), (full, 0, " - "), (full, 0, " -\n"), (slim, 0, " -\n"))
    for columns, padding, between in forms:
        edges = "box  x, y - x, y".replace(" - ", between)
        headings = ("picture", "face", edges, "sure", *columns)
        cells = list(_cells(rows, names, columns.values(), between))
        if needed_width(headings, cells, padding + 1, folded=("picture", "mask")) <= width:
            break
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, padding, 0, 0))
    for heading in headings:
        if heading in ("picture", "mask"):
            table.add_column(heading, overflow="fold", min_width=NAME_WIDTH)
        else:
            right = heading in ("face", "sure")
            table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in cells:
        table.add_row(*row)
    return table, len(columns) == len(full)


def _cells(
    rows: Sequence[Row],
    names: Sequence[str],
    columns: Collection[Callable[[Mapping[str, Any]], str]],
    between: str,
) -> Iterator[list[Text]]:
    from rich.text import Text

    from compreface_cli.photos import faces

    for (result, _, _), name in zip(rows, names, strict=True):
        if result.error:
            yield [Text(name), Text(), Text("failed", style="red")]
        elif not result.faces:
            yield [Text(name), Text("0"), Text("no face")]
        for number, face in enumerate(result.faces, start=1):
            edges = faces.edges(face).replace(" - ", between)
            values = (text_of(face) for text_of in columns)
            cells = [name if number == 1 else "", str(number), edges, faces.sure(face), *values]
            yield [*map(Text, cells)]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
