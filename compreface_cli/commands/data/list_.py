"""`cf data list`: every database with face data on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.data.listing import Held, Row

_HEAD = ("NAME", "STATE", "SIZE", "POSTGRES", "SUBJECTS", "EMBEDDINGS", "IMAGES", "ORPHANED")


def run(
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List all face data on this machine: of instances, and volumes of CompreFace's own installs.

    A database that does not run is read by a temporary container of its own PostgreSQL.
    """
    from compreface_cli.data import listing

    out = Output(json_mode=json_mode)
    rows = listing.rows(out)
    out.lines(lambda: {"data": [row.as_dict() for row in rows]}, lambda width: _draw(rows))


def _draw(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """A line for each database in columns that no width cuts, then what each fits."""
    if not rows:
        yield "No face data. `cf up` starts an instance.", ""
        return
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for cell in cells:
        padded = (text.ljust(width) for text, width in zip(cell, widths, strict=True))
        yield "  ".join(padded).rstrip(), "bold" if cell is _HEAD else ""
    for row in rows:
        if row.name != row.volume:
            yield f"{row.name}: volume {row.volume}", ""
        for line in _notes(row):
            yield f"{row.name}: {line}", ""


def _cells(row: Row) -> tuple[str, ...]:
    from compreface_cli.removal.things import size_words

    size = "?" if row.size is None else size_words(row.size)
    held = row.held
    if held is None:
        return (row.name, row.state, size, "?", "?", "?", "?", "?")
    orphaned = f"{held.orphans} ({size_words(held.orphan_bytes)})" if held.orphans else "0"
    counts = (str(held.subjects), str(held.embeddings), _kept(held), orphaned)
    return (row.name, row.state, size, held.postgres, *counts)


def _kept(held: Held) -> str:
    """How many embeddings have their image, so that another calculator can compute them anew."""
    kept = held.embeddings - held.without_image
    if held.embeddings == 0:
        return "-"
    return "all" if kept == held.embeddings else f"{kept} of {held.embeddings}" if kept else "none"


def _notes(row: Row) -> Iterator[str]:
    if row.adopted_from:
        yield f"adopted from {row.adopted_from}"
    if row.held is None:
        yield f"could not be read: {row.reason}"
        return
    for faces in row.held.faces:
        length = f" ({faces.values} values)" if faces.values else ""
        fits = f"fit {', '.join(faces.fits)}" if faces.fits else "fit no build here"
        yield f"{faces.embeddings} embeddings of {faces.calculator}{length} {fits}"
    if not row.held.faces:
        yield "no embeddings, so that any build fits"
