"""The table of `cf list-builds`, and its long form, as lines of text with a style."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence

from compreface_cli.config.settings_table import DEFAULT_BUILD
from compreface_cli.inspect import described
from compreface_cli.inspect.list_builds import ACCURACY_SET, Row

Line = tuple[str, str]  # text, and the name of a style or ""

_HEAD = ("BUILD", "FOR", f"{ACCURACY_SET} %", "SPEED", "MEM", "DOWNLOAD", "LICENCE", "STARTS")
_RIGHT = frozenset({2, 3, 4, 5})  # columns of numbers
_FOR_WIDTH = 16
_NAME_WIDTH = 20  # a longer name has a line of its own
_LICENCES = {"excluded": "research"}


def short(rows: Sequence[Row], width: int) -> Iterator[Line]:
    """One line for each build, in columns that fit `width` characters from 80 on."""
    cells = [_cells(row) for row in rows]
    named = [[name if len(name) <= _NAME_WIDTH else "", *rest] for name, *rest in cells]
    widths = [max(map(len, column)) for column in zip(_HEAD, *named, strict=True)]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= width else " "

    def line(values: Sequence[str]) -> str:
        padded = (
            text.rjust(space) if at in _RIGHT else text.ljust(space)
            for at, (text, space) in enumerate(zip(values, widths, strict=True))
        )
        return gap.join(padded).rstrip()

    yield line(_HEAD), "bold"
    for row, (name, *rest), values in zip(rows, cells, named, strict=True):
        style = "bold" if row.running else ""
        if not values[0]:
            yield name, style
        yield line(["", *rest] if not values[0] else values), style
        for fault in row.fault.splitlines():
            yield f"    {fault}", "red"


def long(rows: Sequence[Row], width: int) -> Iterator[Line]:
    """A paragraph for each build, with the origin of each figure."""
    for number, row in enumerate(rows):
        if number:
            yield "", ""
        yield _name(row), "bold"
        if row.fault:
            yield from ((f"    {fault}", "red") for fault in row.fault.splitlines())
            continue
        yield from facts(row, width)


def facts(
    row: Row, width: int, before: str = "  ", without: Collection[str] = ()
) -> Iterator[Line]:
    """The facts about a build, each with its label, wrapped at `width`."""
    previous = ""
    for label, text in described.facts(row):
        if label in without:
            continue
        head = "" if label == previous else label
        previous = label
        first, rest = f"{before}{head:<11}", f"{before}{'':<11}"
        wrapped = textwrap.wrap(
            text,
            max(width, 50),
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
        yield from ((part, "") for part in wrapped)


def _name(row: Row) -> str:
    mark = " (default)" if row.name == DEFAULT_BUILD else ""
    return row.name + (" (imported)" if row.origin == "imported" else mark)


def _cells(row: Row) -> list[str]:
    accuracy = row.figure(ACCURACY_SET)
    figures = row.measured
    return [
        _name(row),
        textwrap.shorten(row.good_for, _FOR_WIDTH, placeholder="…"),
        "-" if accuracy is None else f"{accuracy:.2f}",
        described.times(figures.speed) if figures else "-",
        described.memory(row),
        described.left(row),
        _LICENCES.get(row.commercial, row.commercial),
        "running" if row.running else row.why_not or ("online" if row.to_fetch else "yes"),
    ]


def note(text: str, width: int) -> list[Line]:
    """A remark below the table."""
    wrapped = textwrap.wrap(text, max(width, 50), break_long_words=False, break_on_hyphens=False)
    return [("", ""), *((part, "") for part in wrapped)]
