"""Prints tables and paragraphs without the blanks that Rich leaves at the ends of lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def print_trimmed(console: Console, what: RenderableType) -> None:
    """As wide as the console allows; every line ends with its last letter."""
    from rich.segment import Segment, Segments

    kept: list[Segment] = []
    for line in console.render_lines(what, pad=False):
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            line[-1] = line[-1]._replace(text=line[-1].text.rstrip())
        kept += [*line, Segment.line()]
    console.print(Segments(kept), end="", soft_wrap=False)
