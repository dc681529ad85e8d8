"""What a launcher is: it starts, stops and removes what a `Deployment` describes.

The caller decides what is wanted, whether the engine answers correctly, and what is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compreface_cli.cleanup import CleanUp, Report
from compreface_cli.instance.state import Deployment, Endpoint, Kind, ServiceState
from compreface_cli.plan.plan import Plan

# What an engine gets to finish its requests after SIGTERM, before it is killed.
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class LaunchInputs:
    """What a launcher prepares a deployment from."""

    engine: Endpoint  # settled ports: nothing is "auto" any more
    ui: Endpoint | None = None
    models_dir: Path | None = None  # folder of prepared models, None when the build needs none
    folder: Path | None = None  # compose: the written project
    image: str | None = None  # compose: the image's id
    python: Path | None = None  # process: the interpreter of the engine's environment


class Launcher(Protocol):
    """Executes; every method may be called again, and raises a CfError of errors.py on failure."""

    kind: Kind

    def prepare(
        self, plan: Plan, inputs: LaunchInputs, undo: CleanUp, report: Report
    ) -> Deployment:
        """Everything but the start. Only what this call creates is put on `undo`."""
        ...

    def trial(
        self, deployment: Deployment, report: Report
    ) -> AbstractContextManager[tuple[Endpoint, Callable[[], ServiceState]]]:
        """The engine alone on a spare loopback port, beside what runs; gone when the block ends.

        Yields its address and a look at its state (the flow stops waiting when it has failed).
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
        """Start all services without waiting for readiness, within `limit_s` if that is given.

        `new_volume`: the database's volume is one that this run has made.

        `replacing` is the running deployment of the same instance and launcher that gives way; its
        data and volumes stay. Starting the old one again, `replacing` the new, is the way back.
        """
        ...

    def tidy(self, deployment: Deployment, touched: Sequence[str] = ()) -> None:
        """Remove what a swap or a trial that was cut off could not: one engine stays.

        The services `touched` may be about to end, though they still answer: that is waited for.
        """
        ...

    def resume(self, deployment: Deployment, report: Report) -> None:
        """Let go on what somebody has paused."""
        ...

    def stop(self, deployment: Deployment, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop all services and remove what a stop removes: processes, containers, networks.

        Volumes and folders stay. Done already is fine.
        """
        ...

    def remove(self, deployment: Deployment) -> None:
        """Remove what `prepare` and `start` created for this deployment, volumes excepted."""
        ...

    def services(self, deployment: Deployment) -> tuple[ServiceState, ...]:
        """The state of each service, the engine ("core") first; `missing` when nothing is there."""
        ...

    def logs(
        self, deployment: Deployment, *, tail: int, follow: bool, service: str | None = None
    ) -> Iterator[str]:
        """Lines without line ends; `follow` goes on until the caller stops."""
        ...

    def keeps(self, deployment: Deployment) -> Mapping[str, str]:
        """What outlives `stop`, in words to where: {"volume": "...", "log": "..."}."""
        ...
