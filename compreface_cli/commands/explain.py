"""`cf explain`: what a finding means, why it matters, how to see it, and the ways out."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.topics import Topic

_WIDEST = 100


def register(app: typer.Typer) -> None:
    app.command(name="explain")(explain)


def explain(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="The word in brackets behind a message.", show_default=False
        ),
    ] = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Explain a finding, an error or a line of a log; without an ID, list all."""
    from compreface_cli.inspect import explain as inspection

    asked = inspection.chosen(ids) if ids else inspection.topics()
    Output(json_mode=json_mode).lines(
        lambda: {"topics": [topic.as_dict() for topic in asked]},
        lambda width: _explained(asked, width) if ids else _listed(asked, width),
    )


def _listed(topics: Sequence[Topic], width: int) -> Iterator[tuple[str, str]]:
    longest = max(len(topic.id) for topic in topics)
    for topic in topics:
        means = _wrapped(topic.means, max(30, min(width, _WIDEST) - longest - 2))
        for id_, line in zip([topic.id, *[""] * len(means)], means, strict=False):
            yield f"{id_:<{longest}}  {line}", ""


def _explained(topics: Sequence[Topic], width: int) -> Iterator[tuple[str, str]]:
    for number, topic in enumerate(topics):
        if number:
            yield "", ""
        yield topic.id, "bold"
        parts = (("", topic.means), ("Why it matters: ", topic.why), ("To see it: ", topic.see))
        for label, text in parts:
            for line in _wrapped(f"{label}{text}", min(width, _WIDEST)):
                yield line, ""
        yield "Ways out:", ""
        for way in topic.ways:
            first, *rest = _wrapped(way, min(width, _WIDEST) - 4)
            yield f"  - {first}", ""
            for line in rest:
                yield f"    {line}", ""


def _wrapped(text: str, width: int) -> list[str]:
    """The lines of the text, in which commands and addresses stay whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
