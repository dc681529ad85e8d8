"""What `cf doctor` gathered about this machine, for its checks to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from compreface_cli.checks.base import Finding
from compreface_cli.facts import Facts

ModelState = Literal["here", "missing", "damaged"]


@dataclass(frozen=True, slots=True)
class Environment:
    """The engine's private environment: `folder` (None: not made), `error`: what is broken."""

    folder: str | None
    error: str = ""
    can_be_made: bool = True  # this Python can make virtual environments


@dataclass(frozen=True, slots=True)
class WantedPort:
    """A port that `cf up` would publish; `needed`: these settings cannot start without it.

    `way_out`: the flags that choose another one.
    """

    what: str
    needed: bool = True
    way_out: str = "--port auto"


PORTS: Mapping[int, WantedPort] = {
    3000: WantedPort("the engine's port", way_out="--port auto --core-port auto"),
    # Not needed: without Docker the engine starts alone.
    8000: WantedPort("the UI's port", needed=False),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """All that `cf doctor` gathered.

    `instances`: port -> the running instance that uses it. `settings`: their faults, as rows;
    `ui`: whether the build that they choose fits the UI.
    """

    facts: Facts
    ports: Mapping[int, WantedPort] = field(default_factory=lambda: PORTS)
    settings: Sequence[Finding] = ()
    ui: Sequence[Finding] = ()
    models: Mapping[str, ModelState] = field(default_factory=dict)
    environment: Environment = field(default_factory=lambda: Environment(None))
    instances: Mapping[int, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)  # build file or record -> its fault
    trouble: Sequence[Finding] = ()  # why the models could not be examined
    uis: Sequence[Finding] = ()  # for each running instance with a UI: does it answer
    databases: Sequence[Finding] = ()  # for each running instance with a database: its contents
