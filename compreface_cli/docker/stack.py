"""A stack of Docker Swarm as its manager reports it: services, tasks, nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compreface_cli.docker import cli, client
from compreface_cli.docker.containers import Container, inspect, short
from compreface_cli.docker.labels import STACK

ENDED = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")
ROLLED_BACK = ("rollback_completed", "rollback_paused", "paused")


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the Swarm; `ready`: its manager reaches it."""

    id: str
    name: str
    ready: bool
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a service; `state` and `wanted` as in Docker: running, failed, shutdown, ..."""

    id: str
    slot: int  # 0: of a service with one task on each node
    node: str  # id
    state: str
    wanted: str
    error: str
    container: str  # id, "" before there is one
    exit_code: int
    since: str  # of that state, ISO 8601
    current: bool  # made from the service as it is now

    @property
    def runs(self) -> bool:
        return self.state == "running" and self.wanted == "running"

    @property
    def failed(self) -> bool:
        return self.state in ("failed", "rejected")


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a stack, with its tasks, the latest first."""

    id: str
    name: str  # without that of the stack: compreface-core
    wanted: int  # tasks that are to run
    update: str  # state of the last rollout: updating, completed, rollback_completed, ...; "": none
    update_message: str
    update_began: str
    tasks: tuple[Task, ...] = ()

    @property
    def short(self) -> str:
        return short(self.name)

    @property
    def running(self) -> list[Task]:
        return [task for task in self.tasks if task.runs]

    @property
    def settled(self) -> bool:
        """Whether all its tasks run as the service is now, and no rollout is under way."""
        ready = sum(task.runs and task.current for task in self.tasks)
        old = any(task.runs and not task.current for task in self.tasks)
        under_way = self.update in ("updating", "rollback_started")
        return ready >= self.wanted and not old and not under_way

    @property
    def last_failure(self) -> Task | None:
        """Its latest task that ended by a failure."""
        return next((task for task in self.tasks if task.failed or task.error), None)


def services(stack: str) -> list[Service]:
    """The services of the stack with their tasks, by name. Raises NoAnswerError off a manager."""
    label = {"label": [f"{STACK}={stack}"]}
    doing = f"list the services of {stack}"
    rows = client.get("services", doing=doing, filters=label, status="true")
    tasks = client.get("tasks", doing=doing, filters=label) if rows else []
    return sorted(
        (_service(row, tasks, stack) for row in rows or ()), key=lambda service: service.name
    )


def _service(row: Mapping[str, Any], tasks: Iterable[Mapping[str, Any]], stack: str) -> Service:
    spec, update = row["Spec"], row.get("UpdateStatus") or {}
    template = _comparable(spec["TaskTemplate"])
    own = [_task(task, template) for task in tasks if task["ServiceID"] == row["ID"]]
    replicas = (spec["Mode"].get("Replicated") or {}).get("Replicas")
    wanted = (row.get("ServiceStatus") or {}).get("DesiredTasks", 0)
    return Service(
        id=row["ID"],
        name=spec["Name"].removeprefix(f"{stack}_"),
        wanted=int(wanted if replicas is None else replicas),
        update=str(update.get("State") or ""),
        update_message=str(update.get("Message") or ""),
        update_began=str(update.get("StartedAt") or ""),
        tasks=tuple(sorted(own, key=lambda task: task.since, reverse=True)),
    )


def _task(row: Mapping[str, Any], template: Mapping[str, Any]) -> Task:
    status = row["Status"]
    container = status.get("ContainerStatus") or {}
    return Task(
        id=row["ID"],
        slot=int(row.get("Slot") or 0),
        node=str(row.get("NodeID") or ""),
        state=str(status["State"]),
        wanted=str(row["DesiredState"]),
        error=str(status.get("Err") or ""),
        container=str(container.get("ContainerID") or ""),
        exit_code=int(container.get("ExitCode") or 0),
        since=str(status.get("Timestamp") or ""),
        current=_comparable(row["Spec"]) == template,
    )


def _comparable(template: Mapping[str, Any]) -> dict[str, Any]:
    """What a task is made from; only a service names the runtime."""
    return {key: value for key, value in template.items() if key != "Runtime"}


def nodes() -> list[Node]:
    """The nodes of the Swarm. Raises NoAnswerError off a manager."""
    return [
        Node(
            row["ID"],
            str((row.get("Description") or {}).get("Hostname") or row["ID"]),
            (row.get("Status") or {}).get("State") == "ready",
            (row.get("Spec") or {}).get("Labels") or {},
        )
        for row in client.get("nodes", doing="list the nodes of the Swarm")
    ]


def this_node() -> str:
    """The id of this engine's node; "" outside of a Swarm."""
    info = client.get("info", doing="ask for the Swarm")
    return str((info.get("Swarm") or {}).get("NodeID") or "")


def containers_here(stack: str) -> list[Container]:
    """The containers of the stack's tasks on this node, ended ones too, the latest first."""
    rows = client.get(
        *("containers", "json"),
        doing=f"list the containers of {stack}",
        all="1",
        filters={"label": [f"{STACK}={stack}"]},
    )
    present = inspect(*(row["Id"] for row in rows))
    return sorted(present, key=lambda container: container.created, reverse=True)


def database_here(stack: str, service: str) -> Container | None:
    """The latest container of that service on this node; None without one."""
    return next((each for each in containers_here(stack) if each.service == service), None)


def secrets(stack: str) -> dict[str, str]:
    """Name to id of the secrets of the stack."""
    return _named("secrets", stack)


def configs(stack: str) -> dict[str, str]:
    """Name to id of the configs of the stack."""
    return _named("configs", stack)


def _named(kind: str, stack: str) -> dict[str, str]:
    label = {"label": [f"{STACK}={stack}"]}
    rows = client.get(kind, doing=f"list the {kind} of {stack}", filters=label)
    return {row["Spec"]["Name"]: row["ID"] for row in rows or ()}


def in_use(stack: str) -> frozenset[str]:
    """The ids of the secrets and configs that the stack's services use, now or before an update."""
    label = {"label": [f"{STACK}={stack}"]}
    used: set[str] = set()
    for row in client.get("services", doing=f"list the services of {stack}", filters=label):
        container = row["Spec"]["TaskTemplate"]["ContainerSpec"]
        used |= {each["SecretID"] for each in container.get("Secrets") or ()}
        used |= {each["ConfigID"] for each in container.get("Configs") or ()}
    return frozenset(used)


def task_log(task: str, count: int) -> Sequence[str]:
    """The last lines of a task's log; none where its node does not answer."""
    lines: list[str] = []
    cli.run(
        *("service", "logs", "--raw", f"--tail={count}", task),
        doing="read the log of a task",
        check=False,
        on_line=lines.append,
        timeout_s=20,
    )
    return lines[-count:]
