"""`cf status`: the actual state of every instance of this user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compreface_cli.checks import Finding
from compreface_cli.checks.apis import DRIFT, SEVERAL
from compreface_cli.deploy import database_elsewhere, databases, lost, running, unfinished
from compreface_cli.deploy.running import Health
from compreface_cli.errors import CfError
from compreface_cli.instance import adopted
from compreface_cli.instance.adopted import Adopted
from compreface_cli.instance.records import Damaged, Record
from compreface_cli.instance.state import Deployment
from compreface_cli.locks import Holder
from compreface_cli.plan import fallbacks
from compreface_cli.plan.fallbacks import Replaced
from compreface_cli.runtimes import joined


@dataclass(frozen=True, slots=True)
class Status:
    """The state of an instance; `busy`: the `cf` that is working on it."""

    record: Record
    deployment: Deployment | None
    health: Health
    busy: Holder | None = None
    runtimes: Mapping[str, Any] = field(default_factory=dict)  # of its networks
    database: Sequence[Finding] = ()  # faults of its database

    @property
    def database_address(self) -> str:
        """Host, port and name of a database elsewhere; "" with one of its own, or none."""
        known = database_elsewhere.of_plan(self.record.plan)
        return database_elsewhere.address(known) if known else ""

    @property
    def adopted(self) -> Adopted | None:
        """The install of upstream's that it has adopted, if any."""
        return adopted.of(self.record)

    @property
    def fallbacks(self) -> tuple[Replaced, ...]:
        """The plugins that others answer for, since their models could not be fetched."""
        return fallbacks.of_record(self.record.plan)

    @property
    def fallback_words(self) -> str:
        """Which these are, and the command that tries again."""
        models = joined(dict.fromkeys(each.model for each in self.fallbacks), "and")
        return (
            f"{fallbacks.words(self.fallbacks)}: {models} could not be fetched; "
            f"`{running.start_command(self.record)}` tries again"
        )

    @property
    def apis(self) -> int:
        """The number of its api processes that was asked for; 0 for the engine alone."""
        return int(self.record.plan.get("api_replicas", 1)) if self.record.services == "full" else 0

    @property
    def apis_words(self) -> str:
        """What several api processes mean; empty for one."""
        return f"{self.apis} {DRIFT} [{SEVERAL.id}]" if self.apis > 1 else ""

    @property
    def well(self) -> bool:
        """Whether it is in the state that its user wanted: running, stopped or being changed."""
        return self.busy is not None or self.health.state in ("running", "slow", "stopped")


def status(name: str | None = None) -> tuple[list[Status], list[Damaged]]:
    """The state of the named instance or of all, and the damaged records; changes nothing."""
    if name is not None:
        settled = _settled(running.pick(name, only_running=False))
        return ([] if settled is None else [_look(*settled)]), []
    records, damaged = running.instances().all()
    current = [_settled(record) for record in records]
    return [_look(*settled) for settled in current if settled is not None], damaged


def _settled(record: Record) -> tuple[Record, Holder | None] | None:
    """The record and the `cf` that works on the instance; None when the instance is gone.

    Reads the record again, so that a run that has just ended is not taken for an interrupted one.
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
    deployed = running.deployment(record) if record.deployment else None
    health = running.health(record, busy=busy is not None)
    runtimes = running.runtimes(record) if health.answers else {}
    faults: list[Finding] = []
    elsewhere = database_elsewhere.of_plan(record.plan) is not None
    if busy is None and (
        elsewhere
        or any(
            service.name == "postgres" and service.state == "running" for service in health.services
        )
    ):
        faults = [fault for fault in databases.look(record, deployed) if fault.level == "fail"]
    if faults:
        prefix = f"{record.name}: "  # the command prints it before the note
        lines = [
            line for fault in faults for line in (fault.message.removeprefix(prefix), fault.hint)
        ]
        state = "unhealthy" if health.answers else health.state
        text = "\n".join([health.detail, *lines] if health.detail else lines)
        health = replace(health, state=state, detail=text)
    if (second := _second_database(record)) and busy is None:
        text = "\n".join([health.detail, second] if health.detail else [second])
        health = replace(health, state="unhealthy", detail=text)
    return Status(record, deployed, health, busy, runtimes, faults)


def _second_database(record: Record) -> str:
    """That another container than the instance's runs on the volume it adopted; "" if none does."""
    from_upstream = adopted.of(record)
    if from_upstream is None or from_upstream.half or record.phase == "stopped":
        return ""
    from compreface_cli.deploy import aside

    try:
        others = aside.users_of(from_upstream.volume, but=f"cf-{record.name}")
    except CfError:
        return ""
    return "".join(
        f"the container {other.name} runs on its volume {from_upstream.volume} too, which destroys "
        f"the data: docker stop {other.name}"
        for other in others[:1]
    )
