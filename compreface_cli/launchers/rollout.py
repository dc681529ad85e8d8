"""What a rollout on Docker Swarm came to, by the state of its services and tasks."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from compreface_cli.cleanup import Report
from compreface_cli.docker import containers, stack
from compreface_cli.docker.stack import ROLLED_BACK, Service, Task
from compreface_cli.errors import CfError, UnhealthyError
from compreface_cli.instance.state import ServiceState, State, TaskState
from compreface_cli.launchers.stack_project import CORE
from compreface_cli.topics import Topic

ROLLED = Topic(
    "rollout-rolled-back",
    means="The new tasks of a service failed, and Swarm went back to the old ones.",
    why="The new image or setting does not run: it ends, or its health check never succeeds.",
    see="`docker service ps --no-trunc STACK_SERVICE`, and the log of the failed task.",
    ways=(
        "See to the reason that the message shows, then run the same command again.",
        "Leave it: the old tasks run on.",
    ),
)

NOT_PLACED = Topic(
    "task-not-placed",
    means="Swarm finds no node for a task, or a node cannot start it.",
    why="No node has the label, the memory or the image that the task needs.",
    see="`docker service ps --no-trunc STACK_SERVICE`.",
    ways=(
        "Do as the task's error says.",
        "Make room: `docker node ls` shows which nodes are drained or down.",
    ),
)

# Swarm's own words, the only place that names the task.
_BLAMED = re.compile(r"termination of task (\w+)")
_POLL_S = 0.5
_LOG_LINES = 12
_ENGINE_ENDS = 3  # ends of an engine's first tasks, from which it will not start
_OTHERS_END = 12  # a Java service ends again and again until its database answers
_REJECTED = 3
_APPEARS_S = 90.0


def state(service: Service, nodes: Mapping[str, str]) -> ServiceState:
    """The state of a service as `cf` reports it, with its tasks; `nodes`: name by id."""
    running, wanted = len(service.running), service.wanted
    now: State = "starting"
    detail = f"{running} of {wanted} tasks run"
    failure = service.last_failure
    newest = service.tasks[0] if service.tasks else None
    failing = newest is not None and failure is not None and _since(failure) >= _last_start(service)
    if service.update in ("updating", "rollback_started"):
        detail = f"{service.update_message}, {detail}"
    elif running >= wanted:
        now, detail = "running", ""
    elif running == 0 and failing:
        now = "restarting"
    if now != "running" and failure is not None and failing:
        detail += f"; the last one ended: {_words(failure, nodes)}"
    ends = sum(task.failed for task in service.tasks) if now == "restarting" else 0
    return ServiceState(
        service.short,
        now,
        detail,
        healthy=True if now == "running" else None,
        container=None,
        restarts=ends,
        since=_second(min((task.since for task in service.running), default="")),
        exit_code=failure.exit_code if failure is not None and now == "restarting" else 0,
        tasks=tuple(_task(service, task, nodes) for task in shown(service)),
    )


def shown(service: Service) -> list[Task]:
    """The tasks that are to run, by their number and node."""
    own = [task for task in service.tasks if task.wanted in ("running", "ready")]
    return sorted(own, key=lambda task: (task.slot, task.node, task.since))


def _task(service: Service, task: Task, nodes: Mapping[str, str]) -> TaskState:
    node = nodes.get(task.node, task.node)
    number = f".{task.slot}" if task.slot else ""
    return TaskState(f"{service.short}{number}", node, task.state, task.error)


def _since(task: Task) -> str:
    return task.since


def _last_start(service: Service) -> str:
    """When the oldest of its running tasks began; "" without one."""
    return min((task.since for task in service.running), default="")


def _second(text: str) -> str | None:
    return f"{text[:19]}+00:00" if text else None


def _words(task: Task, nodes: Mapping[str, str]) -> str:
    node = nodes.get(task.node, task.node)
    return (task.error or f"exit code {task.exit_code}") + (f" (on {node})" if node else "")


def _why(task: Task, nodes: Mapping[str, str]) -> str:
    """Why a task failed. One that was ended for its health check has no error of its own."""
    if task.error or task.exit_code or not task.container:
        return _words(task, nodes)
    here = containers.inspect(task.container)
    probe = f": {containers.last_probe(here[0])}" if here and here[0].details.get("Health") else ""
    node = nodes.get(task.node, task.node)
    return f"its health check did not succeed{probe} (on {node})"


def wait(project: str, before: Mapping[str, Service], report: Report, deadline: float) -> None:
    """Wait until all tasks of the stack run as their services are now.

    `before`: the services before they were changed. Raises UnhealthyError for a service that Swarm
    has rolled back, whose first tasks end again and again, or that is not there at `deadline`.
    """
    watch = _Watch(project, before, report)
    while not watch.done():
        if time.monotonic() > deadline:
            raise watch.late()
        time.sleep(_POLL_S)


class _Watch:
    def __init__(self, project: str, before: Mapping[str, Service], report: Report) -> None:
        self._project, self._before, self._report = project, before, report
        self._ended = {task.id for service in before.values() for task in service.tasks}
        self._ends: dict[str, set[str]] = {}
        self._said: dict[str, str] = {}
        self._blamed: dict[str, str] = {}  # service -> id of the task that its rollout failed by
        self._pending: list[Service] = []
        self._names = {node.id: node.name for node in stack.nodes()}

    def done(self) -> bool:
        present = stack.services(self._project)
        for service in present:
            self._judge(service)
            self._say(service)
        self._pending = [service for service in present if not service.settled]
        return bool(present) and not self._pending

    def _judge(self, service: Service) -> None:
        """Raise for a service that has failed since this began."""
        old = self._before.get(service.name)
        if (blamed := _BLAMED.search(service.update_message)) is not None:
            self._blamed[service.name] = blamed[1]
        if service.update in ROLLED_BACK and (
            old is None or old.update_began != service.update_began
        ):
            raise self._failed(service, f"the rollout of {service.short} {_outcome(service)}")
        new = {task.id for task in service.tasks if task.failed and task.id not in self._ended}
        ends = self._ends.setdefault(service.name, set())
        ends |= new
        rejected = [task for task in service.tasks if task.id in ends and task.state == "rejected"]
        if service.update in ("updating", "rollback_started"):
            return  # Swarm itself decides
        limit = _ENGINE_ENDS if service.name == CORE else _OTHERS_END
        if len(ends) >= limit or len(rejected) >= _REJECTED:
            raise self._failed(service, f"the service {service.short} does not keep running")

    def _say(self, service: Service) -> None:
        words = f"{len([t for t in service.running if t.current])} of {service.wanted} run"
        if service.update in ("updating", "rollback_started"):
            words = f"{service.update_message}, {words}"
        if self._said.get(service.name) != words:
            if service.name in self._said or not service.settled:
                self._report(f"  {service.short}: {words}")
            self._said[service.name] = words

    def late(self) -> CfError:
        """The error at the deadline, by the first service that is not there."""
        service = self._pending[0]
        names = ", ".join(each.short for each in self._pending)
        return self._failed(service, f"not ready in time: {names}")

    def _failed(self, service: Service, what: str) -> UnhealthyError:
        """The error of a service, with the reason of its last failed task and that task's log."""
        fresh = [task for task in service.tasks if task.id not in self._ended]
        blamed = self._blamed.get(service.name)
        task = next((each for each in service.tasks if each.id == blamed), None)
        task = task or next((each for each in fresh if each.failed or each.error), None)
        lines = list(stack.task_log(task.id, _LOG_LINES)) if task and task.container else []
        cause = _why(task, self._names) if task else service.update_message
        placed = task is None or task.state not in ("rejected", "pending")
        return UnhealthyError(
            f"{what}: {cause}" if cause else what,
            details={
                "service": service.short,
                "cause": cause,
                "update": service.update,
                "node": self._names.get(task.node, "") if task else "",
                "log": lines,
            },
            topic=ROLLED if placed else NOT_PLACED,
        )


def _outcome(service: Service) -> str:
    return {
        "rollback_completed": "failed, and Swarm rolled it back",
        "rollback_paused": "failed, and so did Swarm's way back",
        "paused": "failed and is paused",
    }[service.update]


def until_there(project: str, name: str) -> None:
    """Wait until the service has a container on this node.

    Raises UnhealthyError when Swarm cannot place it.
    """
    deadline = time.monotonic() + _APPEARS_S
    while stack.database_here(project, name) is None:
        service = next((each for each in stack.services(project) if each.name == name), None)
        failure = service.last_failure if service else None
        if (failure is not None and failure.state in ("rejected", "pending")) or (
            time.monotonic() > deadline
        ):
            cause = failure.error if failure else "it has no task"
            raise UnhealthyError(
                f"the database's task does not start: {cause}",
                details={"service": "postgres", "cause": cause},
                topic=NOT_PLACED,
            )
        time.sleep(_POLL_S)
