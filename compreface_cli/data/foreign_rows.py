"""The embeddings of a database that its engine cannot compare, and the one transaction on them."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compreface_cli.data import recompute
from compreface_cli.docker.postgres import Session, literal
from compreface_cli.engine.client import EngineClient
from compreface_cli.facts import contents
from compreface_cli.plugin_table import same_calculator

MOVED_OUT = f"{contents.MIGRATION}.moved_out"
_NO_LIMIT_S = 3600.0
_TABLE = f"""
create schema if not exists {contents.MIGRATION};
create table if not exists {MOVED_OUT} (
 id uuid primary key, subject_id uuid, subject text, service text, application text,
 calculator text not null, had_image boolean not null, moved_at timestamptz not null, archive text)
"""


@dataclass(frozen=True, slots=True)
class Foreign:
    """The embeddings of one subject by one other calculator."""

    application: str
    service: str
    service_id: int
    subject: str
    calculator: str
    faces: int
    without_image: int

    @property
    def words(self) -> str:
        where = f'"{self.service}"' + (f' of "{self.application}"' if self.application else "")
        image = f", {self.without_image} without an image" if self.without_image else ""
        return f'{where}, "{self.subject}": {self.faces} of {self.calculator}{image}'


@dataclass(frozen=True, slots=True)
class Kept:
    """An embedding that was not re-computed, and why."""

    id: str
    service: str
    subject: str
    calculator: str
    reason: str

    @property
    def words(self) -> str:
        return f'"{self.subject}" in "{self.service}": {self.reason} ({self.id})'


def listed(session: Session, calculator: str) -> tuple[Foreign, ...]:
    """The embeddings of other calculators, without CompreFace's demo, by service and subject."""
    return tuple(
        Foreign(
            str(row["application"] or ""),
            str(row["service"]),
            int(row["service_id"]),
            str(row["subject"]),
            str(row["calculator"]),
            int(row["faces"]),
            int(row["without_image"]),
        )
        for row in contents.by_subject(session)
        if not same_calculator(row["calculator"], calculator)
    )


class Work:
    """The embeddings that were computed anew, on disk, until one transaction puts them in place."""

    def __init__(self, session: Session, calculator: str) -> None:
        self._session = session
        self._calculator = calculator
        self._file = tempfile.TemporaryFile("w+")
        self._computed: set[str] = set()
        self.failed: dict[str, Kept] = {}
        self.recomputed = 0
        self.moved: list[Kept] = []

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def due(self) -> list[Kept]:
        """The foreign embeddings with an image that were not computed yet."""
        return [
            row
            for row in self._rows("e.img_id is not null")
            if row.id not in self._computed and row.id not in self.failed
        ]

    def compute(
        self, client: EngineClient, reading: Session, due: Sequence[Kept]
    ) -> Iterator[None]:
        """Ask the engine for each, from images that `reading` gets; yields after each of them."""
        rows = {row.id: row for row in due}
        pictures = ((row.id, picture) for row in due if (picture := _picture(reading, row.id)))
        for id_, seen in recompute.several(client, pictures):
            if seen.kind == "one face":
                self._computed.add(id_)
                values = [repr(value) for value in seen.faces[0].embedding]
                json.dump([id_, rows[id_].calculator, "{" + ",".join(values) + "}"], self._file)
                self._file.write("\n")
            else:
                reason = "several faces in the image" if seen.faces else seen.reason or seen.kind
                row = rows[id_]
                self.failed[id_] = Kept(id_, row.service, row.subject, row.calculator, reason)
            yield

    def apply(self, archive: str) -> None:
        """Put what was computed in place and move the rest out, in one transaction.

        `archive`: the backup that has the rows which are moved out.
        """
        session = self._session
        with session.transaction():
            session.execute("lock table public.embedding in share row exclusive mode")
            session.execute(
                "create temporary table computed (id uuid primary key, was text not null,"
                " embedding float8[] not null) on commit drop"
            )
            self._file.seek(0)
            session.copy_in(
                "computed (id, was, embedding)",
                (json.loads(line) for line in self._file),
                timeout_s=_NO_LIMIT_S,
            )
            changed = session.lines(
                "with changed as (update public.embedding e set embedding = c.embedding,"
                f" calculator = {literal(self._calculator)} from computed c"
                " where e.id = c.id and e.calculator = c.was returning e.id)"
                " select count(*) from changed",
                timeout_s=_NO_LIMIT_S,
            )
            self.recomputed = int("".join(changed))
            self.moved = [self._reasoned(row) for row in self._rows()]
            if self.moved:
                self._move_out(archive)

    def _reasoned(self, row: Kept) -> Kept:
        return self.failed.get(row.id, row)

    def _move_out(self, archive: str) -> None:
        session = self._session
        session.execute(_TABLE)
        session.execute("create temporary table leaving (id uuid primary key) on commit drop")
        session.copy_in("leaving (id)", ([row.id] for row in self.moved))
        session.execute(
            f"insert into {MOVED_OUT} select e.id, s.id, s.subject_name, m.name, a.name,"
            f" e.calculator, e.img_id is not null, now(), {literal(archive)}"
            " from public.embedding e join leaving l on l.id = e.id"
            " join public.subject s on s.id = e.subject_id"
            " join public.model m on m.api_key = s.api_key"
            " left join public.app a on a.id = m.app_id on conflict (id) do nothing",
            timeout_s=_NO_LIMIT_S,
        )
        # The row goes before its image, which another row may name.
        session.execute(
            "create temporary table left_images on commit drop as select distinct e.img_id as id"
            " from public.embedding e join leaving l on l.id = e.id where e.img_id is not null;"
            " delete from public.embedding e using leaving l where l.id = e.id",
            timeout_s=_NO_LIMIT_S,
        )
        session.execute(
            "delete from public.img i using left_images l where i.id = l.id"
            f" and {contents.orphaned(session)}",
            timeout_s=_NO_LIMIT_S,
        )

    def _rows(self, condition: str = "true") -> list[Kept]:
        """The foreign embeddings; `reason` is what is known of them without an engine."""
        session = self._session
        present = [
            str(row["calculator"])
            for row in session.rows("select distinct calculator from public.embedding")
        ]
        others = [name for name in present if not same_calculator(name, self._calculator)]
        if not others:
            return []
        rows = session.rows(
            "select e.id, m.name as service, s.subject_name as subject, e.calculator,"
            " case when e.img_id is null then 'no image' else 'moved out' end as reason"
            " from public.embedding e join public.subject s on s.id = e.subject_id"
            " join public.model m on m.api_key = s.api_key"
            f" where e.calculator in ({', '.join(map(literal, others))})"
            f" and not {contents.DEMO} and {condition}"
        )
        return [Kept(**row) for row in rows]


def _picture(session: Session, embedding: str) -> bytes | None:
    """The image of an embedding; None where it is gone by now."""
    text = session.value(
        "select encode(i.content, 'base64') as content from public.embedding e"
        f" join public.img i on i.id = e.img_id where e.id = {literal(embedding)}"
    )
    return None if text is None else base64.b64decode(text)
