"""The recorded measurements of one, two and four engines, and the simulation beside each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from bench.scaling.simulation import Result, Stack, poisson, simulate

FILE = Path(__file__).with_name("measured.json")
SEEDS = 12  # a load is simulated so often: where few connections are kept, chance decides much


@dataclass(frozen=True, slots=True)
class Beside:
    """One load, measured and simulated: photographs a second, median and 95 % in seconds."""

    engines: int
    load: str
    measured: tuple[float, float, float]
    simulated: tuple[float, float, float]

    @property
    def by_chance(self) -> bool:
        """Whether chance decides how many engines work: one connection for each of several."""
        return self.engines > 1 and self.load == f"{self.engines} connections"

    @property
    def ratios(self) -> tuple[float, float, float]:
        """Simulated over measured."""
        each = zip(self.simulated, self.measured, strict=True)
        first, second, third = (simulated / measured for simulated, measured in each)
        return first, second, third


def read() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return document


def stack(document: Mapping[str, Any]) -> Stack:
    """One engine and the parts before it, from what each was measured to take alone.

    The api computes half of its time before it asks the engine: it reads the photograph and writes
    it on, then reads and compares the answer.
    """
    parts = document["parts"]
    api_s = parts["compreface-api"]["cpu_ms"] / 1e3
    return Stack(
        1,
        tuple(document["engine_alone_s"]),
        api_before_s=api_s / 2,
        api_after_s=api_s / 2,
        nginx_s=parts["compreface-fe"]["cpu_ms"] / 1e3,
    )


def beside(document: Mapping[str, Any]) -> list[Beside]:
    """Each load of the record: the mean of its turns, and of the simulations of the same load."""
    one, rows = stack(document), document["runs"]
    loads = dict.fromkeys((row["engines"], row.get("connections"), row.get("rate")) for row in rows)
    found = []
    for engines, connections, rate in sorted(loads, key=lambda load: [each or 0 for each in load]):
        turns = [
            row
            for row in rows
            if (row["engines"], row.get("connections"), row.get("rate"))
            == (engines, connections, rate)
        ]
        seconds = document["seconds"]
        streams = [poisson(rate, seconds, row["turn"]) if rate else [] for row in turns]
        seen = [
            simulate(
                replace(one, engines=engines),
                connections=int(connections or 0),
                arrivals=arrivals,
                lasts_s=seconds,
                warm_up_s=0.0,
                drain=True,
                seed=seed,
            )
            for seed in range(SEEDS)
            for arrivals in streams
        ]
        load = f"{connections:g} connections" if connections else f"{rate:.1f} a second"
        found.append(
            Beside(
                engines,
                load,
                (
                    mean(row["per_s"] for row in turns),
                    mean(row["p50_s"] for row in turns),
                    mean(row["p95_s"] for row in turns),
                ),
                _figures(seen),
            )
        )
    return found


def _figures(seen: list[Result]) -> tuple[float, float, float]:
    return (
        mean(each.per_second for each in seen),
        mean(each.quantile(0.5) for each in seen),
        mean(each.quantile(0.95) for each in seen),
    )


def table(rows: list[Beside]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        "| engines | load | a second, measured | simulated | median, s | simulated | 95 %, s | simulated |",  # noqa: E501
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        pairs = zip(row.measured, row.simulated, ("4.1f", "4.2f", "4.2f"), strict=True)
        cells = [f"{value:{shape}}".strip() for *pair, shape in pairs for value in pair]
        lines.append(f"| {row.engines} | {row.load} | {' | '.join(cells)} |")
    return lines
