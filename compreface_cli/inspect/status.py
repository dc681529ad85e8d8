"""`cf status`: every instance of this user as it is now, not as its record hopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compreface_cli.checks import Finding
from compreface_cli.deploy import databases, lost, running, unfinished
from compreface_cli.deploy.running import Health
from compreface_cli.instance.records import Damaged, Record
from compreface_cli.instance.state import Deployment
from compreface_cli.locks import Holder


@dataclass(frozen=True, slots=True)
class Status:
    """One instance; `busy` names the `cf` that works on it now."""

    record: Record
    deployment: Deployment | None
    health: Health
    busy: Holder | None = None
    runtimes: Mapping[str, Any] = field(default_factory=dict)  # what its engine says of them
    database: Sequence[Finding] = ()  # what is wrong with what it has stored

    @property
    def well(self) -> bool:
        """Whether it is as its user left it: running rightly, stopped, or being worked on."""
        return self.busy is not None or self.health.state in ("running", "stopped")


def status(name: str | None = None) -> tuple[list[Status], list[Damaged]]:
    """The instance named, or all; changes nothing."""
    if name is not None:
        found = _settled(running.pick(name, only_running=False))
        return ([] if found is None else [_look(*found)]), []
    records, damaged = running.instances().all()
    now = [_settled(record) for record in records]
    return [_look(*one) for one in now if one is not None], damaged


def _settled(record: Record) -> tuple[Record, Holder | None] | None:
    """The record and who works on it; None when it is gone.

    A run that ended after its record was read is no run that was cut off.
    """
    store = running.instances()
    busy = store.holder(record.name)
    while record.unfinished and busy is None:
        again = store.load(record.name)
        if again is None:  # gone, or known by its containers alone
            return (record, None) if lost.instance(record.name) is not None else None
        if again == record:
            break
        record, busy = again, store.holder(record.name)
    return record, busy


def _look(record: Record, busy: Holder | None) -> Status:
    record = unfinished.actual(record)
    known = running.deployment(record) if record.deployment else None
    health = running.health(record, busy=busy is not None)
    said = running.runtimes(record) if health.state == "running" else {}
    found: list[Finding] = []
    if busy is None and any(
        one.name == "postgres" and one.state == "running" for one in health.services
    ):
        found = [one for one in databases.look(record, known) if one.level == "fail"]
    if found:
        named = f"{record.name}: "  # the note begins so already
        lines = [line for one in found for line in (one.message.removeprefix(named), one.hint)]
        state = "unhealthy" if health.state == "running" else health.state
        text = "\n".join([health.detail, *lines] if health.detail else lines)
        health = replace(health, state=state, detail=text)
    return Status(record, known, health, busy, said, found)
