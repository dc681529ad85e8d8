"""The result of a measurement: lines to print, rows with their goals, and the JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure and its goal; with `ok` None it does not count, and `note` says why."""

    what: str
    value: float
    needed: str
    ok: bool | None
    note: str = ""

    def line(self) -> str:
        verdict = {True: "reached", False: "MISSED", None: "does not count"}[self.ok]
        note = f"  ({self.note})" if self.note else ""
        return f"  {self.what:<52}{self.value:>9.3g}  needed {self.needed:<14}{verdict}{note}"


def at_least(what: str, value: float, limit: float, *, counts: bool = True, note: str = "") -> Row:
    return Row(what, value, f">= {limit:g}", value >= limit if counts else None, note)


def at_most(what: str, value: float, limit: float, *, counts: bool = True, note: str = "") -> Row:
    return Row(what, value, f"<= {limit:g}", value <= limit if counts else None, note)


@dataclass(frozen=True, slots=True)
class Chapter:
    """One topic of the benchmark."""

    title: str
    lines: Sequence[str]
    rows: Sequence[Row]
    document: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        return "\n".join([self.title, *self.lines, *(row.line() for row in self.rows)])

    def as_json(self) -> dict[str, Any]:
        rows = [
            {"what": r.what, "value": r.value, "needed": r.needed, "ok": r.ok, "note": r.note}
            for r in self.rows
        ]
        return {"title": self.title, "rows": rows, **self.document}
