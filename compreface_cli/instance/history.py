"""The versions of its stack that an instance has run, as its record keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from compreface_cli.instance.records import Record

KEPT = 10  # entries; older ones are forgotten


@dataclass(frozen=True, slots=True)
class Versions:
    """What ran from `since` (ISO 8601, UTC) on: service ("core", "admin", ...) -> image.

    `schema`: the change sets of the database as of the last start, None if they were not read.
    `backup`: the archive that was written before these versions gave way to the next ones.
    """

    since: str
    cf: str
    images: Mapping[str, str]  # name
    ids: Mapping[str, str]
    build: str = ""
    schema: Sequence[str] | None = None
    backup: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)  # of the record

    def runs_as(self, other: Versions) -> bool:
        """Whether the two are the same images."""
        return dict(self.ids) == dict(other.ids)


def of(record: Record) -> list[Versions]:
    """The versions of the instance, the present ones last."""
    return [Versions(**entry) for entry in record.history]


def with_present(record: Record, present: Versions) -> Record:
    """The record with the versions that run now, as a new entry or in place of the same ones."""
    known = of(record)
    if known and known[-1].runs_as(present):
        present = replace(present, since=known[-1].since)
        known.pop()
    return with_entries(record, [*known, present])


def with_backup(record: Record, backup: str) -> Record:
    """The record with the archive that was written under the present versions."""
    known = of(record)
    if not known:
        return record
    return with_entries(record, [*known[:-1], replace(known[-1], backup=backup)])


def with_entries(record: Record, known: Sequence[Versions]) -> Record:
    """The record with these entries, of which the last ones are kept."""
    return replace(record, history=[asdict(each) for each in known[-KEPT:]])


def recorded(records: Iterable[Record], image: str) -> frozenset[str] | None:
    """The change sets of a database after an admin image, by its id, had started on it.

    Of several starts those of all, since a database may have had further ones. None: it never did.
    """
    result: frozenset[str] | None = None
    for record in records:
        for each in of(record):
            if each.schema is not None and image and each.ids.get("admin") == image:
                there = frozenset(each.schema)
                result = there if result is None else result & there
    return result
