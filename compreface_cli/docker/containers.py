"""Containers: their state, and the likely cause if one has failed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from compreface_cli import causes
from compreface_cli.docker import cli, client
from compreface_cli.docker.labels import (
    CONFIG_HASH,
    FOLDER,
    NUMBER,
    PROJECT,
    SERVICE,
    STACK,
    STACK_SERVICE,
)
from compreface_cli.instance.state import ServiceState, State

_INSPECTED = 200  # at most so many are inspected one by one
_PROBES_KEPT = 5  # the number of health check results that Docker keeps

_KILLED = 137  # 128 + SIGKILL


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A TCP port of the host that is published for the port `inside` of a container.

    `held` is False if it is bound only at the container's next start.
    """

    address: str  # "" means all addresses
    port: int
    held: bool = True
    inside: int = 0


@dataclass(frozen=True, slots=True)
class Container:
    """A container; `state` as in Docker: running, restarting, exited, created, paused, dead.

    The last fields are empty where only a list was read.
    """

    id: str
    name: str
    state: str
    image: str  # id
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PublishedPort, ...] = ()
    volumes: tuple[str, ...] = ()  # names of mounted volumes
    status: str = ""  # "Up 3 minutes (healthy)", "Restarting (3) 2 seconds ago"
    # Only of a container that was asked for by itself:
    details: Mapping[str, Any] = field(default_factory=dict)  # Docker's `State`
    restarts: int = 0
    networks: Mapping[str, Sequence[str]] = field(default_factory=dict)  # name -> its names there
    created: str = ""  # ISO 8601

    @property
    def project(self) -> str | None:
        return self.labels.get(PROJECT)

    @property
    def folder(self) -> str | None:
        """The folder from which Compose started it."""
        return self.labels.get(FOLDER)

    @property
    def service(self) -> str:
        swarm = self.labels.get(STACK_SERVICE, "").removeprefix(f"{self.stack}_")
        return self.labels.get(SERVICE, swarm)

    @property
    def stack(self) -> str | None:
        """The stack of Docker Swarm that it is a task of."""
        return self.labels.get(STACK)

    @property
    def number(self) -> int:
        """Its number among the containers of its service, from 1."""
        return int(self.labels.get(NUMBER) or 1)

    @property
    def config_hash(self) -> str:
        """Compose's hash of its settings, without the content of the image."""
        return self.labels.get(CONFIG_HASH, "")

    @property
    def active(self) -> bool:
        """Whether it runs, or Docker will start it again by itself."""
        return self.state in ("running", "restarting", "paused")

    @property
    def health(self) -> str:
        return str((self.details.get("Health") or {}).get("Status") or "none")

    @property
    def exit_code(self) -> int:
        return int(self.details.get("ExitCode") or 0)

    def published(self, inside: int) -> PublishedPort | None:
        """The host's port at which its port `inside` is published now."""
        return next((port for port in self.ports if port.held and port.inside == inside), None)


def short(service: str) -> str:
    """The name of a service that users see: `compreface-postgres-db` -> `postgres`."""
    return service.removeprefix("compreface-").removesuffix("-db")


def listed(
    label: str = "", *, volume: str = "", timeout_s: float = client.ANSWER_S
) -> list[Container]:
    """All containers, stopped ones too; optionally only those with a `label` or a `volume`.

    `label`: `NAME` or `NAME=VALUE`. Containers that do not run are inspected one by one, up to 200,
    since a list lacks their ports.
    """
    chosen = {key: [value] for key, value in (("label", label), ("volume", volume)) if value}
    rows = client.get("containers", "json", timeout_s=timeout_s, all="1", filters=chosen)
    result, inspected = [], 0
    for row in rows:
        container = _of_row(row)
        if container.state != "running" and inspected < _INSPECTED:
            inspected += 1
            single = _single(container.id, timeout_s)
            if single is None:
                continue  # removed since the list was made
            container = replace(single, status=container.status)
        result.append(container)
    return result


def of_project(project: str, folder: str | None = None) -> list[Container]:
    """All containers of a project, stopped ones too; optionally those started from `folder`."""
    rows = client.get(
        *("containers", "json"),
        doing=f"list the containers of {project}",
        all="1",
        filters={"label": [f"{PROJECT}={project}"]},
    )
    wanted = [row["Id"] for row in rows if folder in (None, row["Labels"].get(FOLDER))]
    return sorted(inspect(*wanted), key=lambda container: container.service)


def inspect(*ids: str) -> list[Container]:
    """The containers with these ids, without those that are gone."""
    return [container for id_ in ids if (container := _single(id_)) is not None]


def _single(id_: str, timeout_s: float = client.ANSWER_S) -> Container | None:
    row = client.find("containers", id_, "json", timeout_s=timeout_s)
    if row is None:
        return None
    network, labels = row.get("NetworkSettings") or {}, row["Config"].get("Labels") or {}
    state = row["State"]
    bindings = _bindings(network.get("Ports"), held=True)
    if state.get("Status") != "running":
        # A container between two starts publishes no ports, but takes them again.
        bindings += _bindings((row.get("HostConfig") or {}).get("PortBindings"), held=False)
    return Container(
        id=row["Id"],
        name=row["Name"].lstrip("/"),
        state=str(state.get("Status")),
        image=row["Image"],
        labels=labels,
        ports=tuple(bindings),
        volumes=_volumes(row),
        details=state,
        restarts=int(row.get("RestartCount") or 0),
        networks={
            name: tuple(joined.get("Aliases") or ())
            for name, joined in (network.get("Networks") or {}).items()
        },
        created=row.get("Created") or "",
    )


def _of_row(row: Mapping[str, Any]) -> Container:
    ports = {
        PublishedPort(item.get("IP", ""), item["PublicPort"], True, item.get("PrivatePort", 0))
        for item in row.get("Ports") or ()
        if item.get("PublicPort") and item.get("Type") == "tcp"
    }
    return Container(
        id=row["Id"],
        name=(row.get("Names") or [row["Id"][:12]])[0].lstrip("/"),
        state=row.get("State", ""),
        status=row.get("Status", ""),
        image=row.get("ImageID", ""),
        labels=row.get("Labels") or {},
        ports=tuple(sorted(ports, key=lambda item: (item.port, item.address))),
        volumes=_volumes(row),
    )


def _volumes(row: Mapping[str, Any]) -> tuple[str, ...]:
    mounts = row.get("Mounts") or ()
    return tuple(item["Name"] for item in mounts if item.get("Type") == "volume")


def _bindings(ports: Mapping[str, Any] | None, *, held: bool) -> list[PublishedPort]:
    return [
        PublishedPort(item.get("HostIp", ""), int(item["HostPort"]), held, int(inside[:-4]))
        for inside, items in (ports or {}).items()
        if inside.endswith("/tcp")
        for item in items or ()
        if item.get("HostPort", "").isdigit()
    ]


def service_state(container: Container) -> ServiceState:
    """The state of a container as `cf` reports it; `detail` names the likely cause of a failure."""
    status = container.state
    health = container.health
    now: State = "failed"
    if status == "running":
        now = "starting" if health == "starting" else "running"
    elif status == "restarting":
        now = "restarting"
    elif status == "created" and not container.details.get("Error"):
        now = "starting"  # Compose waits for its dependencies
    elif status == "paused":
        now = "paused"
    elif status == "exited" and container.exit_code in (0, 143):
        now = "stopped"
    since = container.details.get("StartedAt" if status == "running" else "FinishedAt")
    code, out_of_memory = _ending(container)
    return ServiceState(
        name=short(container.service),
        state=now,
        detail=_fault(container, code, out_of_memory),
        healthy={"healthy": True, "unhealthy": False}.get(health),
        pid=int(container.details.get("Pid") or 0) or None,
        container=container.name,
        restarts=container.restarts,
        since=str(since)[:19] + "+00:00" if since and not str(since).startswith("0001") else None,
        exit_code=code,
        out_of_memory=out_of_memory,
    )


def start_seconds(container: Container) -> float | None:
    """Seconds from its start until its health check first passed; None: not known."""
    log = (container.details.get("Health") or {}).get("Log") or []
    passed = next((place for place, probe in enumerate(log) if probe.get("ExitCode") == 0), None)
    if passed is None or (passed == 0 and len(log) >= _PROBES_KEPT):
        return None  # not yet, or its result is no longer in Docker's log
    try:
        began = datetime.fromisoformat(str(container.details["StartedAt"]))
        ended = datetime.fromisoformat(str(log[passed]["End"]))
    except (KeyError, ValueError):
        return None
    return max(0.0, (ended - began).total_seconds())


def _fault(container: Container, code: int, out_of_memory: bool) -> str:
    """The fault of a container, in words; "" when there is none. The rest: how it last ended."""
    status = container.state
    error = str(container.details.get("Error") or "")
    parts = []
    if container.restarts:
        times = "once" if container.restarts == 1 else f"{container.restarts} times"
        parts.append(f"restarted {times}")
    if status == "created" and error:
        known = causes.of("docker", error)
        parts.append(f"{known.what}: {error}" if known else error)
    elif out_of_memory:
        parts.append(f"exit code {code}: out of memory, killed by the kernel at its memory limit")
    elif code:
        parts.append(f"exit code {code}: {error}" if error else causes.exit_code(code))
    if container.health == "unhealthy" and status == "running":
        parts.append(f"its health check fails: {last_probe(container)}")
    return ", ".join(parts)


def _ending(container: Container) -> tuple[int, bool]:
    """The exit code of its last end, and whether it ran out of memory; (0, False): not known.

    After a restart only Docker's events have that.
    """
    code, oom = container.exit_code, bool(container.details.get("OOMKilled"))
    if not container.restarts and not (container.state in ("exited", "dead") and code):
        return 0, False
    if not oom and (container.restarts or code == _KILLED):
        for event in _events(container):
            if event.get("Action") == "oom":
                oom = True
            elif not code:
                code = int(event.get("Actor", {}).get("Attributes", {}).get("exitCode", 0))
    return code, oom


def _events(container: Container) -> list[dict[str, Any]]:
    """The events "die" and "oom" of the last hour, the latest first."""
    text = cli.run(
        "events",
        "--since=1h",
        f"--until={time.time():.9f}",  # a relative time would leave out the last second
        "--filter=event=die",
        "--filter=event=oom",
        f"--filter=container={container.id}",
        "--format={{json .}}",
        doing="read the events",
        check=False,
    )
    return [json.loads(line) for line in reversed(text.splitlines()) if line.strip()]


def last_probe(container: Container) -> str:
    """The last line that its health check printed, else its exit code."""
    log = (container.details.get("Health") or {}).get("Log") or [{}]
    lines = str(log[-1].get("Output") or "").strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {log[-1].get('ExitCode')}"


def last_lines(container: Container, count: int) -> list[str]:
    """The last lines of a container's log, stdout and stderr."""
    output: list[str] = []
    cli.run(
        "logs",
        f"--tail={count}",
        container.id,
        doing=f"read the log of {container.name}",
        check=False,
        on_line=output.append,
    )
    return output[-count:]
