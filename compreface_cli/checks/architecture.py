"""CPU architecture: the engine's wheels exist for amd64 and arm64, CUDA wheels for amd64 only."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import HARDWARE, Finding, OwnedResources, fail, ok
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "architecture"

OTHER = Topic(
    "architecture",
    means="The engine has no packages for this processor architecture.",
    why="They exist for amd64 and arm64; those for GPUs for amd64 alone.",
    see="`uname -m`.",
    ways=(
        "Use another machine.",
        "On arm64, use a build without a GPU.",
    ),
)

_CPU = ("amd64", "arm64")
_CUDA = ("amd64",)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    yield judge(of_engine(plan, facts), plan.device)


def of_engine(plan: Plan, facts: Facts) -> str:
    """The CPU architecture of the host that will run the engine, by Docker's name: `amd64`."""
    if plan.launcher != "process" and facts.docker is not None and facts.docker.architecture:
        return facts.docker.architecture
    return facts.host.architecture


def judge(architecture: str, device: str = "cpu") -> Finding:
    supported = _CUDA if device == "cuda" else _CPU
    if architecture in supported:
        return ok(NAME, architecture)
    return fail(
        NAME,
        HARDWARE,
        f"this machine is {architecture}; the engine runs on {' and '.join(supported)} "
        f"with device {device}",
        "Use another machine" + (", or a CPU build." if architecture in _CPU else "."),
        topic=OTHER,
    )


def doctor(machine: Machine) -> Iterator[Finding]:
    yield judge(machine.facts.host.architecture)
