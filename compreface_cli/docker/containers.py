"""What the containers of a Compose project do, and the likely cause when one does not do it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from compreface_cli.docker import cli
from compreface_cli.instance.state import ServiceState, State

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
FOLDER = "com.docker.compose.project.working_dir"
_HASH = "com.docker.compose.config-hash"
_NUMBER = "com.docker.compose.container-number"
_PROBES_KEPT = 5  # so many results of a health check Docker remembers

_KILLED = 137  # 128 + SIGKILL
_EXITS = {
    126: "its program may not be executed",
    127: "its program does not exist in the image",
    132: "an illegal instruction: this processor lacks one that the program needs",
    _KILLED: "killed, mostly for want of memory",
    139: "a segmentation fault",
    143: "stopped by SIGTERM",
}


@dataclass(frozen=True, slots=True)
class Container:
    """One container as `docker inspect` tells it."""

    id: str
    name: str
    service: str
    image: str  # id
    folder: str
    state: Mapping[str, Any]
    restarts: int
    ports: Mapping[str, Sequence[Mapping[str, str]] | None]
    number: int = 1  # of the containers of its service
    config_hash: str = ""  # over all that Compose made it from, its image's content aside
    networks: Mapping[str, Sequence[str]] = field(default_factory=dict)  # name -> its names there
    labels: Mapping[str, str] = field(default_factory=dict)
    created: str = ""  # ISO 8601

    @property
    def health(self) -> str:
        return str((self.state.get("Health") or {}).get("Status") or "none")

    @property
    def exit_code(self) -> int:
        return int(self.state.get("ExitCode") or 0)


def short(service: str) -> str:
    """`compreface-postgres-db` -> `postgres`: the words that users see."""
    return service.removeprefix("compreface-").removesuffix("-db")


def of_project(project: str, folder: str | None = None) -> list[Container]:
    """All containers of a project, stopped too; with `folder` only those started from there."""
    ids = cli.run(
        "ps",
        "--all",
        "--quiet",
        "--no-trunc",
        f"--filter=label={PROJECT}={project}",
        doing=f"list the containers of {project}",
    ).split()
    found = inspect(*ids) if ids else []
    if folder is not None:
        found = [container for container in found if container.folder == folder]
    return sorted(found, key=lambda container: container.service)


def inspect(*names: str) -> list[Container]:
    """Those of them that are still there."""
    text = cli.run(
        "container", "inspect", "--format={{json .}}", *names, doing="look at them", check=False
    )
    return [_container(json.loads(line)) for line in text.splitlines() if line.strip()]


def _container(row: Mapping[str, Any]) -> Container:
    labels = row["Config"].get("Labels") or {}
    network = row.get("NetworkSettings") or {}
    return Container(
        id=row["Id"],
        name=row["Name"].lstrip("/"),
        service=labels.get(SERVICE, ""),
        image=row["Image"],
        folder=labels.get(FOLDER, ""),
        state=row["State"],
        restarts=int(row.get("RestartCount") or 0),
        ports=network.get("Ports") or {},
        number=int(labels.get(_NUMBER) or 1),
        config_hash=labels.get(_HASH, ""),
        networks={
            name: tuple(one.get("Aliases") or ())
            for name, one in (network.get("Networks") or {}).items()
        },
        labels=labels,
        created=row.get("Created") or "",
    )


def service_state(container: Container) -> ServiceState:
    """Docker's words in ours; `detail` names the likely cause of what is wrong."""
    status = str(container.state.get("Status"))
    health = container.health
    now: State = "failed"
    if status == "running":
        now = "starting" if health == "starting" else "running"
    elif status == "restarting":
        now = "restarting"
    elif status == "created" and not container.state.get("Error"):
        now = "starting"  # Compose waits for what it depends on
    elif status == "paused":
        now = "paused"
    elif status == "exited" and container.exit_code in (0, 143):
        now = "stopped"
    since = container.state.get("StartedAt" if status == "running" else "FinishedAt")
    return ServiceState(
        name=short(container.service),
        state=now,
        detail=cause(container),
        healthy={"healthy": True, "unhealthy": False}.get(health),
        pid=int(container.state.get("Pid") or 0) or None,
        container=container.name,
        restarts=container.restarts,
        since=str(since)[:19] + "+00:00" if since and not str(since).startswith("0001") else None,
    )


def start_seconds(container: Container) -> float | None:
    """How long it took from its start until its health check first passed; None: not known."""
    log = (container.state.get("Health") or {}).get("Log") or []
    passed = next((place for place, one in enumerate(log) if one.get("ExitCode") == 0), None)
    if passed is None or (passed == 0 and len(log) >= _PROBES_KEPT):
        return None  # not yet, or too long ago for Docker to remember
    try:
        began = datetime.fromisoformat(str(container.state["StartedAt"]))
        ended = datetime.fromisoformat(str(log[passed]["End"]))
    except (KeyError, ValueError):
        return None
    return max(0.0, (ended - began).total_seconds())


def cause(container: Container) -> str:
    """What is wrong with a container, in words; "" when nothing is."""
    status = str(container.state.get("Status"))
    error = str(container.state.get("Error") or "")
    parts = []
    if container.restarts:
        times = "once" if container.restarts == 1 else f"{container.restarts} times"
        parts.append(f"restarted {times}")
    if status == "created" and error:
        known = cli.explain(error)
        parts.append(f"{known[1]}: {error}" if known else error)
    elif container.restarts or (status in ("exited", "dead") and container.exit_code):
        parts += [words for words in (_end_of(container, error),) if words]
    if container.health == "unhealthy" and status == "running":
        parts.append(f"its health check fails: {_probe(container)}")
    return ", ".join(parts)


def _end_of(container: Container, error: str) -> str:
    """How it ended last. Docker forgets that when it starts it again; its events do not."""
    code, oom = container.exit_code, bool(container.state.get("OOMKilled"))
    if not oom and (container.restarts or code == _KILLED):
        for event in _events(container):
            if event.get("Action") == "oom":
                oom = True
            elif not code:
                code = int(event.get("Actor", {}).get("Attributes", {}).get("exitCode", 0))
    if oom:
        return f"exit code {code}: out of memory, killed by the kernel at its memory limit"
    if error:
        return f"exit code {code}: {error}"
    if not code and container.restarts:
        return ""  # too long ago for the engine to remember
    meaning = _EXITS.get(code)
    return f"exit code {code}" + (f": {meaning}" if meaning else "")


def _events(container: Container) -> list[dict[str, Any]]:
    """Its ends of the last hour, the latest first."""
    text = cli.run(
        "events",
        "--since=1h",
        f"--until={time.time():.9f}",  # a relative time would leave out the last second
        "--filter=event=die",
        "--filter=event=oom",
        f"--filter=container={container.id}",
        "--format={{json .}}",
        doing="ask for events",
        check=False,
    )
    return [json.loads(line) for line in reversed(text.splitlines()) if line.strip()]


def _probe(container: Container) -> str:
    log = (container.state.get("Health") or {}).get("Log") or [{}]
    lines = str(log[-1].get("Output") or "").strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {log[-1].get('ExitCode')}"


def last_lines(container: Container, count: int) -> list[str]:
    """The last lines a container wrote, on either stream."""
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
