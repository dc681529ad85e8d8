"""What `cf doctor` has looked at on this machine, for the checks to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from compreface_cli.checks.base import Finding
from compreface_cli.facts import Facts

ModelState = Literal["here", "missing", "damaged"]


@dataclass(frozen=True, slots=True)
class Environment:
    """The engine's private environment: `folder` None: not made; `error`: what is broken."""

    folder: str | None
    error: str = ""
    can_be_made: bool = True  # this Python has what makes virtual environments


@dataclass(frozen=True, slots=True)
class WantedPort:
    """A port that `cf up` would take; `needed`: without it no `up` of these settings starts.

    `way_out`: the flags that choose another.
    """

    what: str
    needed: bool = True
    way_out: str = "--port auto"


PORTS: Mapping[int, WantedPort] = {
    3000: WantedPort("the engine's port", way_out="--port auto --core-port auto"),
    # Without Docker the engine starts alone.
    8000: WantedPort("the UI's port", needed=False),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that `cf doctor` looked at.

    `instances`: port -> the running instance that has it. `settings`: what is wrong with them, as
    rows; `ui`: whether the build they choose fits the UI.
    """

    facts: Facts
    ports: Mapping[int, WantedPort] = field(default_factory=lambda: PORTS)
    settings: Sequence[Finding] = ()
    ui: Sequence[Finding] = ()
    models: Mapping[str, ModelState] = field(default_factory=dict)
    environment: Environment = field(default_factory=lambda: Environment(None))
    instances: Mapping[int, str] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)  # builds, records -> what is wrong
    trouble: Sequence[Finding] = ()  # what keeps the models from being looked at
    uis: Sequence[Finding] = ()  # of each running instance with a UI: does it answer
    databases: Sequence[Finding] = ()  # of each running instance with a database: what it holds
