"""The tables of docs/scaling.md, written from the recorded measurements and the simulation."""

from __future__ import annotations

from pathlib import Path

from bench.scaling import WITHIN, WITHIN_BY_CHANCE, arithmetic, recorded

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
COLLECTION = 10_000  # of the table of engines


def tables() -> dict[str, list[str]]:
    """The lines of each table by the name in its markers."""
    document = recorded.read()
    figures = arithmetic.Figures.of(document)
    return {
        "measured": [*recorded.table(recorded.beside(document)), "", _errors()],
        "engines": arithmetic.engines_table(figures, COLLECTION),
        "cameras": arithmetic.cameras_table(figures),
    }


def _errors() -> str:
    usual, chance = (
        [f"{share * 100:.0f} %" for share in each] for each in (WITHIN, WITHIN_BY_CHANCE)
    )
    return (
        f"The simulation is within {usual[0]} of the throughput, {usual[1]} of the medians and "
        f"{usual[2]} of the 95 % line;\nwith one connection for each of several engines, where "
        f"chance decides, within {chance[0]}."
    )


def text() -> str:
    """The page with its tables written anew."""
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in tables().items():
        begin, end = f"<!-- {name}, by `python -m bench.scaling --write` -->", f"<!-- /{name} -->"
        head, found, rest = page.partition(begin)
        _, ends, tail = rest.partition(end)
        if not (found and ends):
            raise ValueError(f"{PAGE} has no table '{name}'")
        page = head + "\n".join([begin, *lines, end]) + tail
    return page
