"""`cf data list`: every database with face data on this machine, and what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from compreface_cli.builds import fitting
from compreface_cli.deploy import running
from compreface_cli.docker import belongings
from compreface_cli.docker.postgres import Server, Session
from compreface_cli.errors import CfError
from compreface_cli.facts import contents, database, places
from compreface_cli.facts.places import Place
from compreface_cli.instance import adopted
from compreface_cli.terminal.output import Output

START_S = 30.0  # for a database that does not run to answer, after a recovery perhaps
STATEMENT_S = 20.0


@dataclass(frozen=True, slots=True)
class Faces:
    """The embeddings of one calculator, over all services; `fits`: builds that compute them."""

    calculator: str
    embeddings: int
    values: int | None  # of an embedding
    fits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """What a database holds, without the demo's faces; sizes in bytes."""

    postgres: str  # major version
    subjects: int
    faces: tuple[Faces, ...]
    services: tuple[Mapping[str, Any], ...]  # as of facts.contents.by_calculator
    without_image: int
    images: int
    image_bytes: int
    orphans: int
    orphan_bytes: int

    @property
    def embeddings(self) -> int:
        return sum(each.embeddings for each in self.faces)


@dataclass(frozen=True, slots=True)
class Row:
    """A database; `held` None: it could not be read, and `reason` says why. `size` in bytes."""

    name: str
    instance: str
    volume: str
    project: str
    image: str  # of its PostgreSQL, where it is known
    state: str  # running, stopped
    size: int | None
    held: Held | None = None
    reason: str = ""
    adopted_from: str = ""  # the folder or project of upstream's that the instance was made from

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def rows(out: Output) -> list[Row]:
    """All databases: those of instances, then the volumes of CompreFace's own installs.

    One that does not run is read by a temporary container of its PostgreSQL.
    """
    with out.waiting("Looking for face data") as label:
        found = places.places()
        sizes = belongings.volume_sizes()
        builds = fitting.calculators()
        read: dict[str, Row] = {}
        for number, place in enumerate(found, start=1):
            if place.volume not in read:
                label(f"Reading {place.name} ({number} of {len(found)})")
                row = _row(place, sizes.get(place.volume), builds)
                if row is not None:
                    read[place.volume] = row
        return [
            replace(
                read[place.volume],
                name=place.name,
                instance=place.instance,
                adopted_from=_adopted_from(place),
            )
            for place in found
            if place.volume in read
        ]


def _adopted_from(place: Place) -> str:
    from_upstream = adopted.of(place.record)
    return from_upstream.from_words if from_upstream else ""


def _row(place: Place, size: int | None, builds: Mapping[str, str]) -> Row | None:
    """The row of a place; None for a volume of another program's PostgreSQL."""
    row = Row(
        name=place.name,
        instance=place.instance,
        volume=place.volume,
        project=place.project,
        image=place.image,
        state="running" if place.running else "stopped",
        size=size,
    )
    try:
        place = place.readable()
        row = replace(row, image=place.image)
        with _opened(place) as server, Session(server, statement_s=STATEMENT_S) as session:
            if not contents.has_faces(session) and not place.instance:
                return None
            return replace(row, held=_held(session, builds))
    except CfError as error:
        return replace(row, reason=error.message.strip().partition("\n")[0])


@contextmanager
def _opened(place: Place) -> Iterator[Server]:
    """Its server; no other `cf` may start the instance while a temporary one reads its volume."""
    locked = place.instance and not place.running
    lock = running.instances().lock(place.instance, "cf data list") if locked else nullcontext()
    with lock, place.opened(start_s=START_S) as server:
        yield server


def _held(session: Session, builds: Mapping[str, str]) -> Held:
    version = database.major(str(session.value("select current_setting('server_version') as v")))
    if not contents.has_faces(session):
        return Held(version, 0, (), (), 0, 0, 0, 0, 0)
    services = [row for row in contents.by_calculator(session) if not row["demo"]]
    images = contents.images(session)
    return Held(
        postgres=version,
        subjects=contents.subjects(session),
        faces=tuple(_faces(services, builds)),
        services=tuple(services),
        without_image=sum(row["without_image"] for row in services),
        images=int(images["count"]),
        image_bytes=int(images["bytes"]),
        orphans=int(images["orphans"]),
        orphan_bytes=int(images["orphan_bytes"]),
    )


def _faces(services: Sequence[Mapping[str, Any]], builds: Mapping[str, str]) -> Iterator[Faces]:
    for calculator in sorted({row["calculator"] for row in services}):
        rows = [row for row in services if row["calculator"] == calculator]
        yield Faces(
            calculator,
            sum(row["faces"] for row in rows),
            max((row["values"] for row in rows if row["values"] is not None), default=None),
            tuple(fitting.fitting(calculator, builds)),
        )
