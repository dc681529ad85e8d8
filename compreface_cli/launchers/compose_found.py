"""What Docker itself says of a project that `cf` started: its build, its services, its ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compreface_cli.docker import containers
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_CALCULATOR
from compreface_cli.instance.state import Endpoint

_CORE, _UI = "compreface-core", "compreface-fe"
_ENGINE_PORT, _UI_PORT = 3000, 80  # inside the containers


@dataclass(frozen=True, slots=True)
class Found:
    """The containers of a project; an endpoint is None where none is published now."""

    services: tuple[str, ...]  # as Compose names them
    build: str  # of the engine; "" when there is none
    calculator: str
    image: str  # of the engine: its id
    engine: Endpoint | None
    ui: Endpoint | None
    created: str  # of the oldest container, ISO 8601


def found(project: str, folder: Path) -> Found | None:
    """What was started from that folder; None when there is nothing."""
    there = containers.of_project(project, str(folder))
    if not there:
        return None
    named = [one for one in there if one.service == _CORE and any(one.networks.values())]
    core = max(named, key=lambda one: one.state == "running", default=None)
    ui = next((one for one in there if one.service == _UI), None)
    labels = core.labels if core else {}
    return Found(
        services=tuple(sorted({one.service for one in there})),
        build=labels.get(LABEL_BUILD, ""),
        calculator=labels.get(LABEL_CALCULATOR, ""),
        image=core.image if core else "",
        # Behind the UI the engine's own port is the UI's.
        engine=_published(ui or core, _ENGINE_PORT),
        ui=_published(ui, _UI_PORT),
        created=min(one.created for one in there)[:19] + "+00:00",
    )


def _published(container: containers.Container | None, inside: int) -> Endpoint | None:
    port = container.published(inside) if container else None
    return Endpoint(port.address or "0.0.0.0", port.port) if port else None  # noqa: S104
