"""`cf list-builds --for PURPOSE`: which builds fit a purpose, in which order, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from compreface_cli.inspect.list_builds import ACCURACY_SET, Row


@dataclass(frozen=True, slots=True)
class Purpose:
    """Builds that fit a purpose: those that it `fits`, the highest `rank` first."""

    why: str  # of the order
    fits: Callable[[Row], bool]
    rank: Callable[[Row], tuple[float, ...]]
    lacks: Callable[[Row], bool] = lambda row: False  # a figure that decides about the build


def _accuracy(row: Row) -> float:
    return float(row.figure(ACCURACY_SET) or 0)


def _speed(row: Row) -> float:
    return row.measured.speed if row.measured else 0


def _speed_alone(row: Row) -> float:
    return row.measured.speed_alone if row.measured else 0


_LICENCES = ("allowed", "unclear")

PURPOSES: Mapping[str, Purpose] = {
    "accuracy": Purpose(
        f"The order is that of the published {ACCURACY_SET} figures. Differences below 0.2 say "
        "little; `cf show BUILD` has figures by group of faces.",
        lambda row: True,
        lambda row: (_accuracy(row),),
        lambda row: row.figure(ACCURACY_SET) is None,
    ),
    "speed": Purpose(
        "The order is that of scans a second at eight connections.",
        lambda row: True,
        lambda row: (_speed(row),),
        lambda row: row.measured is None,
    ),
    "commercial": Purpose(
        "Builds that no licence excludes: allowed ones first, then by accuracy. Unclear: no "
        "licence is stated, or the photographs that the weights were trained on have other terms.",
        lambda row: row.commercial in _LICENCES,
        lambda row: (-_LICENCES.index(row.commercial), _accuracy(row)),
    ),
    "weak-cpu": Purpose(
        "CPU builds that scan at least as fast as the default over one connection and need no more "
        "CPU flags; the fastest first.",
        lambda row: (
            row.device == "cpu"
            and not row.more_flags
            and (row.measured is None or row.measured.speed_alone >= 1)
        ),
        lambda row: (_speed_alone(row),),
        lambda row: row.measured is None,
    ),
    "gpu": Purpose(
        f"Builds for an NVIDIA GPU, by {ACCURACY_SET}; this project has not measured their speed.",
        lambda row: row.device == "cuda",
        lambda row: (_accuracy(row),),
    ),
}


def fitting(purpose: Purpose, rows: Iterable[Row]) -> tuple[list[Row], list[Row]]:
    """The rows that fit in their order, and those that lack the deciding figure."""
    wanted = [row for row in rows if not row.fault and purpose.fits(row)]
    known = [row for row in wanted if not purpose.lacks(row)]
    return sorted(known, key=purpose.rank, reverse=True), [
        row for row in wanted if purpose.lacks(row)
    ]
