"""How an instance is deployed and what its services do now, whichever launcher runs it.

A `Deployment` is all that a launcher needs to start, stop or remove the same thing again, also in
a later run of `cf`; it is kept as JSON in the instance's record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal[
    "running", "starting", "restarting", "paused", "stopped", "failed", "missing"
]
Kind: TypeAlias = Literal["compose", "process"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service answers: `bind` is what it listens on, `url` what this machine calls.

    `key` is what it asks for, if it asks for API keys; it never goes into a record.
    """

    bind: str
    port: int
    key: str = field(default="", repr=False)

    def as_dict(self) -> dict[str, Any]:
        return {"bind": self.bind, "port": self.port}

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.bind, self.bind)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What one service does now, as its supervisor or Docker tells it."""

    name: str  # "core", "api", ...
    state: State
    detail: str = ""  # in words: "restarted 3 times, last exit code 137"
    healthy: bool | None = None  # None: it has no health check or nobody asked yet
    pid: int | None = None
    container: str | None = None
    restarts: int = 0
    since: str | None = None  # ISO 8601, UTC

    @property
    def words(self) -> str:
        """What it does, as a sentence: `core ended with exit code 137: killed`."""
        detail = self.detail
        if self.state == "failed" and detail.startswith("exit code"):
            return f"{self.name} ended with {detail}"
        if self.state == "failed" and detail.startswith("ended by"):
            return f"{self.name} {detail}"
        says = "has failed" if self.state == "failed" else f"is {self.state}"
        return f"{self.name} {says}" + (f": {detail}" if detail else "")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One prepared way of running an instance; `data` is the launcher's own, JSON-ready."""

    launcher: Kind
    instance: str
    engine: Endpoint
    ui: Endpoint | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "launcher": self.launcher,
            "instance": self.instance,
            "engine": self.engine.as_dict(),
            "ui": self.ui.as_dict() if self.ui else None,
            "data": dict(self.data),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Deployment:
        """The inverse of `as_dict`, the key aside; KeyError or TypeError on anything else."""
        ui = document["ui"]
        return cls(
            launcher=document["launcher"],
            instance=document["instance"],
            engine=Endpoint(**document["engine"]),
            ui=Endpoint(**ui) if ui else None,
            data=document["data"],
        )
