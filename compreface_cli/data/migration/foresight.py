"""What a migration will do, take and need: counts, and the time of pictures really computed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compreface_cli.checks.base import size
from compreface_cli.config import paths
from compreface_cli.data.migration import compute, rules, tables
from compreface_cli.data.migration.rules import PENDING, WITHOUT_IMAGE, Rules, Verdict
from compreface_cli.data.migration.tables import Target
from compreface_cli.docker import cli
from compreface_cli.docker.postgres import DATA, Server, Session
from compreface_cli.engine.client import EngineClient
from compreface_cli.errors import HardwareError
from compreface_cli.facts import contents
from compreface_cli.instance.records import Record

SAMPLE = 20  # pictures that are computed to measure the time
WRITERS = ("api", "admin")  # services that write faces, and are stopped for the switch
_ROW_BYTES = 120  # of a row and its index entries, beside the vector
_SPARE = 1.2
_WAL_BYTES = 1 << 30  # PostgreSQL's own default of max_wal_size
_VALUES = 512  # numbers of an embedding, where nothing was computed
_ROWS_A_SECOND = 3000.0  # of the switch; see docs/decisions/migration.md
_SWAP_S, _START_S = 6.0, 15.0  # a new engine takes over; a service of unknown start time


@dataclass(frozen=True, slots=True)
class Sample:
    """Stored pictures that the new engine has computed: `seconds` each at the speed of the run."""

    images: int
    seconds: float
    values: int  # numbers of an embedding


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is known before a migration."""

    instance: str
    former_build: str
    former_calculator: str
    build: str
    calculator: str
    verdict: Verdict
    collections: Sequence[Mapping[str, Any]]
    without_image: Sequence[Mapping[str, Any]]  # subjects: service, subject, faces
    away_s: float
    sample: Sample | None = None
    needed: Mapping[str, int] = field(default_factory=dict)  # bytes by what
    free: Mapping[str, int] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        return self.verdict.by_outcome.get(PENDING, 0)

    @property
    def done(self) -> int:
        """Faces whose embedding an earlier run has computed or saved."""
        return self.verdict.faces - self.pending - self.verdict.by_outcome.get(WITHOUT_IMAGE, 0)

    @property
    def seconds(self) -> float | None:
        """Until all are computed; None if that was not measured."""
        return None if self.sample is None else self.pending * self.sample.seconds

    def as_dict(self) -> dict[str, Any]:
        return {
            "instance": self.instance,
            "from": {"build": self.former_build, "calculator": self.former_calculator},
            "to": {"build": self.build, "calculator": self.calculator},
            "faces": self.verdict.faces,
            "by_outcome": dict(self.verdict.by_outcome),
            "done": self.done,
            "pending": self.pending,
            "collections": list(self.collections),
            "without_image": list(self.without_image),
            "sample": None
            if self.sample is None
            else {"images": self.sample.images, "seconds": round(self.sample.seconds, 4)},
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "disk": {"needed": dict(self.needed), "free": dict(self.free)},
            "out_of_service": {"services": list(WRITERS), "seconds": round(self.away_s)},
            "refused": list(self.verdict.refused),
        }


def foresee(
    session: Session,
    target: Target,
    record: Record,
    wanted: tuple[str, str],
    by: Rules,
) -> Plan:
    """The plan by counts alone; `wanted`: build and calculator to migrate to."""
    verdict = rules.judge(tables.tally(session, target), by)
    return Plan(
        instance=record.name,
        former_build=record.build,
        former_calculator=record.calculator,
        build=wanted[0],
        calculator=wanted[1],
        verdict=verdict,
        collections=contents.by_calculator(session),
        without_image=_without_image(session, target),
        away_s=_away(record, verdict.faces),
    )


def measure(
    session: Session, client: EngineClient, target: Target, *, at_once: int, keep: bool
) -> Sample | None:
    """Compute some stored pictures, and with `keep` store what came of it; None without any."""
    batch = compute.pending(session, target)[:SAMPLE]
    if not batch:
        return None
    began = time.monotonic()
    seen = compute.seen_in(session, client, batch, at_once=at_once)
    seconds = (time.monotonic() - began) / max(1, len(seen))
    if keep:
        compute.store(session, target, batch, seen)
    values = (len(face.embedding) for each in seen.values() for face in each.faces)
    return Sample(len(seen), seconds, next(values, _VALUES))


def disk(
    session: Session, server: Server, plan: Plan, *, values: int, backup: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """Bytes that are needed and free, for the database and for the backup."""
    former = max((int(row["values"] or 0) for row in plan.collections), default=_VALUES)
    vector, saved = 8 * values + _ROW_BYTES, 8 * former + _ROW_BYTES
    # Computed; at the switch the present one is saved, and the row written anew.
    grows = plan.verdict.faces * (2 * vector + saved) * _SPARE
    needed = {"database": int(grows + min(grows, _WAL_BYTES))}
    free = {}
    text = cli.run(*server.exec("df", "-Pk", DATA), doing="look at the free space", check=False)
    fields = text.splitlines()[-1].split() if text.strip() else []
    if len(fields) >= 4 and fields[3].isdigit():
        free["database"] = int(fields[3]) * 1024
    if backup:
        needed["backup"] = int(session.value("select pg_database_size(current_database()) as n"))
        free["backup"] = shutil.disk_usage(_existing(paths.data_dir())).free
    return needed, free


def need_room(needed: Mapping[str, int], free: Mapping[str, int]) -> None:
    """Raise HardwareError for what does not fit."""
    for what, amount in needed.items():
        if what in free and free[what] < amount:
            raise HardwareError(
                f"the {what} needs {size(amount)} more, and {size(free[what])} are free",
                hint="Free some space: `cf prune` shows what is unused. Nothing was changed.",
                details={"needed": dict(needed), "free": dict(free)},
            )


def _existing(folder: Path) -> Path:
    return folder if folder.exists() else _existing(folder.parent)


def _without_image(session: Session, target: Target) -> list[dict[str, Any]]:
    rows = session.rows(
        "select m.name as service, s.subject_name as subject, count(*) as faces"
        f" from {target.source} where {target.other} and i.id is null and v.embedding_id is null"
        " group by 1, s.id, 2 order by 3 desc, 1, 2 limit 100"
    )
    return list(rows)


def _away(record: Record, faces: int) -> float:
    starts = sum(record.start_s.get(name, _START_S) for name in WRITERS)
    return _SWAP_S + record.start_s.get("core", _START_S) + starts + faces / _ROWS_A_SECOND


def lines(plan: Plan) -> list[str]:
    """The plan as text."""
    text = [
        f"'{plan.instance}' from {plan.former_build} ({plan.former_calculator}) to {plan.build} "
        f"({plan.calculator})",
        f"  faces to migrate  {plan.verdict.faces}",
    ]
    for row in plan.collections:
        where = f"{row['application']} / {row['service']}"
        kind = "demo faces, left as they are" if row["demo"] else "faces"
        text.append(f"    {where}: {row['faces']} {kind}, {row['calculator']}")
    if plan.done:
        text.append(f"  computed already  {plan.done}")
    if count := plan.verdict.by_outcome.get(WITHOUT_IMAGE, 0):
        text.append(f"  without an image  {count}")
        text += [
            f"    {row['service']}: {row['subject']} ({row['faces']})"
            for row in plan.without_image[:10]
        ]
        if len(plan.without_image) > 10:
            text.append("    and others; --json and the report name more")
    if plan.sample is not None and plan.seconds is not None:
        text.append(
            f"  time              {duration(plan.seconds)}: {plan.sample.seconds:.3f} s an image, "
            f"measured with {plan.sample.images} stored ones"
        )
    for what, amount in plan.needed.items():
        free = f", {size(plan.free[what])} free" if what in plan.free else ""
        text.append(f"  disk              {size(amount)} for the {what}{free}")
    text.append(
        f"  out of service    {' and '.join(WRITERS)} at the switch, for about "
        f"{duration(plan.away_s)}; until then everything runs on"
    )
    text += [f"  refused: {reason}" for reason in plan.verdict.refused]
    return text


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
