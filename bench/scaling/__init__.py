"""From one engine to a thousand: a simulation, what it was checked against, and the arithmetic."""

from __future__ import annotations

from bench.result import Chapter, at_most
from bench.scaling import recorded

# How far the simulation may be from the recorded engines: throughput, median, 95 %. With one
# connection for each of several engines chance decides how many of them work at all.
WITHIN = (0.07, 0.16, 0.20)
WITHIN_BY_CHANCE = (0.35, 0.35, 0.35)


def chapter() -> Chapter:
    """The simulation beside the recorded engines, with the largest error of each kind."""
    rows = recorded.beside(recorded.read())
    goals = []
    for what, chosen, limits in (
        ("", [row for row in rows if not row.by_chance], WITHIN),
        (", one connection an engine", [row for row in rows if row.by_chance], WITHIN_BY_CHANCE),
    ):
        for number, figure in enumerate(("throughput", "median", "95 %")):
            worst = max(abs(row.ratios[number] - 1) for row in chosen)
            goals.append(at_most(f"error of the {figure}{what}", worst, limits[number]))
    return Chapter("One, two and four engines", recorded.table(rows), goals)
