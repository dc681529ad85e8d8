"""Upstream's containers that an instance has adopted: stand them aside, and give them back.

At no moment two databases run on their volume: each start here is preceded by a look at who mounts
it, and upstream's restart policies, which would start them again with the Docker engine, are put
aside before anything of `cf` starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from compreface_cli.config import paths
from compreface_cli.deploy import running, unfinished
from compreface_cli.docker import cli, containers
from compreface_cli.docker.containers import Container
from compreface_cli.errors import ConflictError, UnhealthyError
from compreface_cli.facts.upstream import DATABASE, SERVICES
from compreface_cli.instance.adopted import Adopted, Aside
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.terminal.output import Output

_STOP_S = 60  # until a database or a Java service is killed
_FREE_S = 90.0  # a temporary server needs up to a minute to shut down
_RUNS_S = 20.0  # a container that ends at once has done so by then
_ANSWERS_S = 60.0
_POLL_S = 0.2
_READY = "pg_isready -q -h 127.0.0.1 && echo ready"


@dataclass(frozen=True, slots=True)
class GivenBack:
    """Names of the containers that run again, that stay stopped as they were, and gone services."""

    started: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def stand_aside(adopted: Adopted, save: Callable[[Adopted], None], out: Output) -> Adopted:
    """Put the restart policies aside and stop the containers, the database last.

    `save` is called before the first is stopped. Raises ConflictError when the volume is still in
    use afterwards.
    """
    there = {item.id: item for item in containers.inspect(*_ids(adopted))}
    if there:
        cli.run("update", "--restart=no", *there, doing="put the restart policies aside")
    adopted = replace(adopted, stopping=True)
    save(adopted)
    running_now = [item for item in there.values() if item.state not in ("exited", "created")]
    with out.waiting("Stopping upstream's services"):
        _stop(running_now)
    free(adopted.volume)
    return adopted


def give_back(name: str, record: Record, adopted: Adopted, out: Output) -> GivenBack:
    """Stop what is ours, and bring upstream's containers back as they were. May be repeated.

    The record stays, for the caller to remove. Raises a CfError when something does not stop or
    start.
    """
    with out.waiting("Stopping the instance"):
        stop_ours(name, record)
    if adopted.state == "comparing":
        return GivenBack()  # none of them was touched
    present = {item.id: item for item in containers.inspect(*_ids(adopted))}
    asides = [each for each in _in_order(adopted) if each.container in present]
    gone = tuple(each.service for each in adopted.services if each.container not in present)
    if adopted.stopping:
        # One of them may be in the middle of a stop, which a start would not end.
        with out.waiting("Ending the stop of upstream's services"):
            _stop([item for item in present.values() if item.active])
    free(adopted.volume, but=[each.container for each in asides])
    for each in asides:
        cli.run("update", f"--restart={each.policy}", each.container, doing=f"restore {each.name}")
    starting = [each for each in asides if each.ran]
    for each in starting:
        # Again before each: what else may have been started on the volume meanwhile.
        if each.service == DATABASE:
            free(adopted.volume, but=[each.container])
        cli.run("start", each.container, doing=f"start {each.name}")
        if each.service == DATABASE:
            _wait_until_it_answers(each)
    with out.waiting("Waiting for upstream's services"):
        _wait_until_running(starting)
    return GivenBack(
        started=tuple(each.name for each in starting),
        stopped=tuple(each.name for each in asides if not each.ran),
        gone=gone,
    )


def stop_ours(name: str, record: Record | None) -> None:
    """Stop and remove all containers of the instance, also those that no record knows yet."""
    for known in unfinished.deployments(record) if record is not None else []:
        running.launcher(known.launcher).stop(known)
    nowhere = Endpoint("127.0.0.1", 0)
    data = {"project": f"cf-{name}", "folder": str(paths.project_dir(name))}
    running.launcher("compose").stop(Deployment("compose", name, nowhere, None, data))


def users_of(volume: str, *, but: str = "") -> list[Container]:
    """The active containers that mount the volume, but those of the Compose project `but`."""
    return [
        item
        for item in containers.listed(volume=volume)
        if item.active and (not but or item.project != but)
    ]


def free(volume: str, *, but: list[str] | tuple[str, ...] = ()) -> None:
    """Wait until no container but these runs on the volume; ConflictError with its name if not."""
    deadline = time.monotonic() + _FREE_S
    while True:
        users = [item for item in users_of(volume) if item.id not in but]
        if not users:
            return
        if time.monotonic() > deadline:
            raise ConflictError(
                f"the container {users[0].name} runs on the volume {volume}; two databases on one "
                "volume destroy it",
                hint=f"Stop it first: docker stop {users[0].name}",
                details={"volume": volume, "container": users[0].name},
            )
        time.sleep(_POLL_S)


def _ids(adopted: Adopted) -> list[str]:
    return [each.container for each in adopted.services]


def _in_order(adopted: Adopted) -> list[Aside]:
    return sorted(adopted.services, key=lambda each: SERVICES.index(each.service))


def _stop(present: list[Container]) -> None:
    """Stop the containers, the database last and with time to write everything."""
    database = [item.id for item in present if item.service == DATABASE]
    for batch in ([item.id for item in present if item.id not in database], database):
        if batch:
            cli.run(
                *("stop", f"--time={_STOP_S}", *batch),
                doing="stop upstream's services",
                timeout_s=_STOP_S + 60,
            )


def _wait_until_it_answers(database: Aside) -> None:
    """Until PostgreSQL accepts connections, or for a while.

    The others end without it, and come back at other addresses than upstream's nginx remembers.
    """
    deadline = time.monotonic() + _ANSWERS_S
    words = ("exec", database.container, "sh", "-c", _READY)
    while time.monotonic() < deadline:
        if cli.run(*words, doing="ask the database", check=False).strip() == "ready":
            return
        time.sleep(_POLL_S)


def _wait_until_running(started: list[Aside]) -> None:
    """UnhealthyError for a container that has ended right after its start, for good."""
    deadline = time.monotonic() + _RUNS_S
    while True:
        states = {
            item.id: item for item in containers.inspect(*(each.container for each in started))
        }
        silent = [
            each
            for each in started
            if each.container not in states or states[each.container].state != "running"
        ]
        if not silent:
            return
        if time.monotonic() > deadline:
            item = states.get(silent[0].container)
            says = containers.service_state(item).detail if item else "it is gone"
            raise UnhealthyError(
                f"upstream's container {silent[0].name} does not run again: {says or 'it ended'}",
                hint=f"docker logs {silent[0].name} has the reason; `docker start` starts it.",
                details={"container": silent[0].name},
            )
        time.sleep(_POLL_S)
