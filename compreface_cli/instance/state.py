"""How an instance is deployed, and the state of its services, for every launcher.

A `Deployment` is all that a launcher needs to start, stop or remove the instance again in a later
run of `cf`; it is kept as JSON in the instance's record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal[
    "running", "starting", "restarting", "paused", "stopped", "failed", "missing"
]
Kind: TypeAlias = Literal["compose", "swarm", "process"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service answers: `bind` is its listen address, `url` the one to call from here.

    `key` is an API key that it accepts, if it asks for one; it is never written to a record.
    `certificate`: the file with the certificate that it shows; "" without TLS.
    """

    bind: str
    port: int
    key: str = field(default="", repr=False)
    certificate: str = ""

    def as_dict(self) -> dict[str, Any]:
        with_tls = {"certificate": self.certificate} if self.certificate else {}
        return {"bind": self.bind, "port": self.port, **with_tls}

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.bind, self.bind)  # noqa: S104
        scheme = "https" if self.certificate else "http"
        return (
            f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"
        )


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task of a service on Swarm: `core.2` on a node, in Docker's word for its state."""

    name: str
    node: str
    state: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The state of a service, as its supervisor or Docker reports it."""

    name: str  # "core", "api", ...
    state: State
    detail: str = ""  # in words: "restarted 3 times, last exit code 137"
    healthy: bool | None = None  # None: it has no health check, or was not asked yet
    pid: int | None = None
    container: str | None = None
    restarts: int = 0
    since: str | None = None  # ISO 8601, UTC
    exit_code: int = 0  # of its last end, by a signal 128 and more
    out_of_memory: bool = False  # the kernel killed it at its memory limit
    number: int = 1  # of several with this name
    address: str = ""  # URL at which this one alone answers on this machine; "" without
    replicas: tuple[ServiceState, ...] = ()  # each of several; the other fields: of the worst
    tasks: tuple[TaskState, ...] = ()  # on Swarm

    @property
    def words(self) -> str:
        """The state as a clause: `core ended with exit code 137: killed`."""
        detail = self.detail
        if self.state == "failed" and detail.startswith("exit code"):
            return f"{self.name} ended with {detail}"
        if self.state == "failed" and detail.startswith("ended by"):
            return f"{self.name} {detail}"
        says = "has failed" if self.state == "failed" else f"is {self.state}"
        return f"{self.name} {says}" + (f": {detail}" if detail else "")


@dataclass(frozen=True, slots=True)
class Deployment:
    """A prepared way to run an instance; `data` is the launcher's own, as plain JSON."""

    launcher: Kind
    instance: str
    engine: Endpoint
    ui: Endpoint | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def replicas(self) -> int:
        """The number of engines of each service of engines; 1 in records without it."""
        return int(self.data.get("replicas") or 1)

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
        """The inverse of `as_dict`, without the key; raises KeyError or TypeError."""
        ui = document["ui"]
        return cls(
            launcher=document["launcher"],
            instance=document["instance"],
            engine=Endpoint(**document["engine"]),
            ui=Endpoint(**ui) if ui else None,
            data=document["data"],
        )
