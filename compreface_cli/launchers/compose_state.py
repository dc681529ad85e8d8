"""A running Compose project of `cf` as Docker reports it: its build, its services, its ports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from compreface_cli.docker import containers
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_CALCULATOR
from compreface_cli.instance.state import Endpoint
from compreface_cli.project.targets.compose import TLS_CERT

_CORE, _UI = "compreface-core", "compreface-fe"
_ENGINE_PORT, _UI_PORT, _UI_TLS_PORT = 3000, 80, 443  # inside the containers


@dataclass(frozen=True, slots=True)
class ProjectState:
    """The state of a project's containers; an endpoint is None if its port is not published."""

    services: tuple[str, ...]  # as Compose names them
    build: str  # of the engine; "" without one
    calculator: str
    image: str  # of the engine: its id
    engine: Endpoint | None
    ui: Endpoint | None
    engines: int  # how many
    created: str  # of the oldest container, ISO 8601


def project_state(project: str, folder: Path) -> ProjectState | None:
    """The state of the project that was started from that folder; None without containers."""
    present = containers.of_project(project, str(folder))
    if not present:
        return None
    named = [item for item in present if item.service == _CORE and any(item.networks.values())]
    core = max(named, key=lambda item: item.state == "running", default=None)
    ui = next((item for item in present if item.service == _UI), None)
    labels = core.labels if core else {}
    return ProjectState(
        services=tuple(sorted({item.service for item in present})),
        build=labels.get(LABEL_BUILD, ""),
        calculator=labels.get(LABEL_CALCULATOR, ""),
        image=core.image if core else "",
        # In the full stack the UI's container publishes the engine's port.
        engine=_published(ui or core, _ENGINE_PORT),
        ui=_published(ui, _UI_PORT) or _with_tls(_published(ui, _UI_TLS_PORT), folder),
        engines=len(named),
        created=min(item.created for item in present)[:19] + "+00:00",
    )


def _with_tls(endpoint: Endpoint | None, folder: Path) -> Endpoint | None:
    return replace(endpoint, certificate=str(folder / TLS_CERT)) if endpoint else None


def _published(container: containers.Container | None, inside: int) -> Endpoint | None:
    port = container.published(inside) if container else None
    return Endpoint(port.address or "0.0.0.0", port.port) if port else None  # noqa: S104
