"""The interface of launchers, which start, stop and remove the services of a `Deployment`.

The caller decides what to deploy, whether the engine answers correctly, and what to undo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from compreface_cli.cleanup import CleanUp, Report
from compreface_cli.instance.state import Deployment, Endpoint, Kind, ServiceState
from compreface_cli.plan.plan import Plan

# The time for an engine to finish its requests after SIGTERM, before it is killed.
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class LaunchInputs:
    """The inputs from which a launcher prepares a deployment."""

    engine: Endpoint  # ports are numbers here, never "auto"
    ui: Endpoint | None = None
    models_dir: Path | None = None  # process: folder of prepared models, None without models
    folder: Path | None = None  # compose, swarm: the project folder
    image: str | None = None  # compose, swarm: id of the engine's image
    core_image: str = ""  # swarm: the name by which each node gets that image
    python: Path | None = None  # process: the interpreter of the engine's environment


class Launcher(Protocol):
    """Carries out changes; each method is idempotent and raises a CfError when it fails."""

    kind: Kind

    def prepare(
        self, plan: Plan, inputs: LaunchInputs, undo: CleanUp, report: Report
    ) -> Deployment:
        """Do all but the start. Each resource is registered on `undo` before it is created."""
        ...

    def trial(
        self, deployment: Deployment, report: Report
    ) -> AbstractContextManager[tuple[Endpoint, Callable[[], ServiceState]]]:
        """Run the engine alone on a free loopback port, next to the running instance.

        Yields its address and a function that returns its state, so that a wait can stop when it
        has failed. It is removed at the end of the block.
        """
        ...

    def start(
        self,
        deployment: Deployment,
        report: Report,
        *,
        replacing: Deployment | None = None,
        limit_s: float | None = None,
        new_volume: bool = False,
    ) -> None:
        """Start all services, within `limit_s` if given; does not wait until they are ready.

        `replacing`: the running deployment of the same instance and launcher, which is replaced;
        its data and volumes stay. To roll back, start the old one with `replacing` the new one.
        `new_volume`: this run created the database's volume.
        """
        ...

    def tidy(self, deployment: Deployment, touched: Sequence[str] = ()) -> None:
        """Remove what an interrupted swap or trial left behind, so that one engine remains.

        The services `touched` may be stopping although they still answer; waits until they ended.
        """
        ...

    def resume(self, deployment: Deployment, report: Report) -> None:
        """Resume services that were paused."""
        ...

    def stop(self, deployment: Deployment, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop all services and remove their processes, containers and networks.

        Volumes and folders stay.
        """
        ...

    def remove(self, deployment: Deployment) -> None:
        """Remove what `prepare` and `start` created for this deployment, except volumes."""
        ...

    def services(self, deployment: Deployment) -> tuple[ServiceState, ...]:
        """The state of each service, the engine ("core") first; `missing` if it does not exist."""
        ...

    def logs(
        self,
        deployment: Deployment,
        *,
        tail: int,
        follow: bool,
        service: str | None = None,
        since: datetime | None = None,
    ) -> Iterator[str]:
        """Lines without line ends; with `follow` until the caller stops or the service ends.

        `since`: none before that time.
        """
        ...

    def keeps(self, deployment: Deployment) -> Mapping[str, str]:
        """What remains after `stop`, and where: {"volume": NAME, "project folder": PATH}."""
        ...
