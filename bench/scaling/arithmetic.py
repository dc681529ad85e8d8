"""How much of each part a stream of photographs needs, and what a thousand engines come to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.scaling.simulation import Result, Stack, poisson, simulate

BUSY = 0.7  # of each part at most: above it the waiting time grows faster than the load
API_CORES = 16  # of one api at most, a machine of its own; more were never tried, nor were so many
CORES = (4, 8, 16)  # of a machine
ENGINES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
CAMERAS = (10, 100, 1_000, 10_000)
COLLECTIONS = (1_000, 10_000, 100_000)
_SIMULATED = 20_000  # photographs of each row
_SIMULATED_S = 5.0  # at least: engines and kept connections need some time to settle


@dataclass(frozen=True, slots=True)
class Figures:
    """What one photograph costs; see `figures` of measured.json for the source of each."""

    engine_ms: float  # of one core, a photograph without its faces
    engine_face_ms: float  # for each face in it
    nginx_ms: float
    photograph_bytes: float
    database_bytes: float  # of a face, without its photograph
    api_ms: tuple[tuple[float, float], ...]  # faces of a collection -> of one core, a face

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Figures:
        values = {name: float(row["value"]) for name, row in document["figures"].items()}
        points = tuple((row[0], row[1]) for row in document["api_ms"])
        return cls(**values, api_ms=points)

    def engine_s(self, faces: float = 1) -> float:
        return (self.engine_ms + faces * self.engine_face_ms) / 1e3

    def api_s(self, collection: int, faces: float = 1) -> float:
        """On the line between the two measured points; each face is compared with all."""
        (_, empty), *_ = self.api_ms
        for (low, of_low), (high, of_high) in pairwise(self.api_ms):
            if low <= collection <= high:
                one = of_low + (of_high - of_low) * (collection - low) / (high - low)
                return (empty + faces * (one - empty)) / 1e3
        raise ValueError(f"{collection} faces were never measured")


@dataclass(frozen=True, slots=True)
class Needs:
    """Cores of each part, so that none is busier than `BUSY`; `instances`: stacks of one api."""

    engine_cores: float
    api_cores: float
    nginx_cores: float
    instances: int
    megabits: float
    database_gb: float

    def machines(self, cores: int) -> int:
        """For the engines alone."""
        return math.ceil(self.engine_cores / cores)


def needs(figures: Figures, per_second: float, collection: int, faces: float = 1) -> Needs:
    """What so many photographs a second need, each with so many faces."""
    api = per_second * figures.api_s(collection, faces) / BUSY
    return Needs(
        per_second * figures.engine_s(faces) / BUSY,
        api,
        per_second * figures.nginx_ms / 1e3 / BUSY,
        math.ceil(api / API_CORES),
        per_second * figures.photograph_bytes * 8 / 1e6,
        collection * figures.database_bytes / 1e9,
    )


def carried_on(figures: Figures, engines: int, collection: int) -> tuple[Needs, Result]:
    """So many engines of one core each, as busy as `BUSY`, and how long a photograph takes.

    Where one api is not enough, the services are divided over instances, each with its share of the
    engines. A Poisson stream that is divided by chance gives Poisson streams, so that one instance
    stands for all.
    """
    per_second = BUSY * engines / figures.engine_s()
    wanted = needs(figures, per_second, collection)
    share = per_second / wanted.instances
    empty_s, api_s = figures.api_s(0), figures.api_s(collection)
    stack = Stack(
        max(1, round(engines / wanted.instances)),
        (figures.engine_s(),),
        api_cores=max(1, math.ceil(wanted.api_cores / wanted.instances)),
        api_before_s=empty_s / 2,
        api_after_s=api_s - empty_s / 2,
        nginx_cores=max(1, math.ceil(wanted.nginx_cores)),
        nginx_s=figures.nginx_ms / 1e3,
    )
    seconds = max(_SIMULATED_S, _SIMULATED / share)
    warm_s = seconds / 10
    arrivals = poisson(share, seconds + warm_s, seed=engines)
    return wanted, simulate(stack, arrivals=arrivals, lasts_s=seconds, warm_up_s=warm_s)


def engines_table(figures: Figures, collection: int) -> list[str]:
    """From one engine to a thousand, as lines of Markdown."""
    lines = [
        "| engines | photographs a second | median, ms | 95 %, ms | refused | api cores "
        "| instances | nginx cores | Mbit/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for engines in ENGINES:
        wanted, seen = carried_on(figures, engines, collection)
        per_second = BUSY * engines / figures.engine_s()
        lines.append(
            f"| {engines} | {_short(per_second)} | {seen.quantile(0.5) * 1e3:.0f} | "
            f"{seen.quantile(0.95) * 1e3:.0f} | {seen.refused} | {_short(wanted.api_cores)} | "
            f"{wanted.instances} | {_short(wanted.nginx_cores)} | {_short(wanted.megabits)} |"
        )
    return lines


def cameras_table(figures: Figures, faces: float = 1) -> list[str]:
    """Cameras with a photograph a second each, by the faces that are known, in Markdown."""
    machines = " | ".join(f"of {cores}" for cores in CORES)
    lines = [
        f"| cameras | known faces | engine cores | machines {machines} cores | api cores "
        "| instances | nginx cores | Mbit/s | database, GB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for collection in COLLECTIONS:
        for cameras in CAMERAS:
            wanted = needs(figures, cameras, collection, faces)
            counts = " | ".join(str(wanted.machines(cores)) for cores in CORES)
            lines.append(
                f"| {cameras:,} | {collection:,} | {_short(wanted.engine_cores)} | {counts} | "
                f"{_short(wanted.api_cores)} | {wanted.instances} | {_short(wanted.nginx_cores)} | "
                f"{_short(wanted.megabits)} | {wanted.database_gb:.2g} |".replace(",", " ")
            )
    return lines


def _short(value: float) -> str:
    """Two figures: 0.21, 3.4, 47, 1 300."""
    if value >= 100:
        return f"{round(value, 1 - math.floor(math.log10(value))):,.0f}".replace(",", " ")
    return f"{value:.2g}"
