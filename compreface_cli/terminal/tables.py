"""Prints tables and paragraphs without the trailing blanks that Rich leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

NAME_WIDTH = 10  # least width of a folded column, in characters

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from rich.console import Console, RenderableType
    from rich.text import Text


def print_trimmed(console: Console, what: RenderableType) -> None:
    """Print at the console's width, without trailing blanks."""
    from rich.segment import Segment, Segments

    kept: list[Segment] = []
    for line in console.render_lines(what, pad=False):
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            line[-1] = line[-1]._replace(text=line[-1].text.rstrip())
        kept += [*line, Segment.line()]
    console.print(Segments(kept), end="", soft_wrap=False)


def needed_width(
    headings: Sequence[str], rows: Iterable[Sequence[Text]], gap: int, *, folded: Collection[str]
) -> int:
    """Characters that a table needs when no column is folded but those named in `folded`."""
    widths = [max(map(len, heading.split("\n"))) for heading in headings]
    for row in rows:
        for at, cell in enumerate(row):
            widths[at] = max(widths[at], *map(len, cell.plain.split("\n")))
    for at, heading in enumerate(headings):
        if heading in folded:
            widths[at] = NAME_WIDTH
    return sum(widths) + gap * (len(headings) - 1)
