"""Control group: limits below what is asked, of the process or of Docker's containers."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks import memory
from compreface_cli.checks.base import HARDWARE, Finding, OwnedResources, fail, ok, size, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.facts.cgroup import Limits
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "cgroup"
PIDS = 200  # the threads of the five services; the engine alone takes 30 on two processors
_SEE = "`cat /proc/self/cgroup`, then the files memory.max, cpu.max and pids.max of that group."

MEMORY = Topic(
    "cgroup-memory",
    means="A control group limits the memory to less than the services need, although the machine "
    "has more.",
    why="The kernel kills a service at the limit (exit code 137), again and again.",
    see=_SEE,
    ways=(
        "Raise the limit of the container, the systemd unit (MemoryMax=) or the slice.",
        "Start the engine alone: `cf up --services core`.",
    ),
)

CPUS = Topic(
    "cgroup-cpus",
    means="A control group gives less than one processor.",
    why="Starts take minutes, and health checks may fail meanwhile.",
    see=_SEE,
    ways=(
        "Raise the limit of the container, the systemd unit (CPUQuota=) or the slice.",
        "Allow more time: `--timeout 900`.",
    ),
)

PROCESSES = Topic(
    "cgroup-pids",
    means="A control group allows too few processes and threads.",
    why="A service ends with `can't start new thread`, or Java with `unable to create native "
    "thread`.",
    see=_SEE,
    ways=("Raise the limit of the container (--pids-limit) or the systemd unit (TasksMax=).",),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    docker = facts.docker
    in_docker = plan.launcher != "process"
    if in_docker and (docker is None or not docker.reachable or not docker.local):
        return
    full = plan.services == "full" and in_docker
    limits = facts.containers_group if in_docker else facts.own_group
    whose = "of Docker's containers" if in_docker else "that this process runs in"
    yield from judge(limits, memory.STACK if full else memory.ENGINE, whose)


def judge(limits: Limits | None, needed: int, whose: str) -> Iterator[Finding]:
    """What the limits of the group do not allow; `needed`: memory in bytes."""
    if limits is None:
        return
    if limits.memory is not None and limits.memory < needed:
        yield fail(
            NAME,
            HARDWARE,
            f"the control group {whose} has a limit of {size(limits.memory)} of memory; "
            f"{size(needed)} are needed",
            "Raise the limit, or start the engine alone: --services core.",
            topic=MEMORY,
        )
    if limits.cpus is not None and limits.cpus < 1:
        yield warn(
            NAME,
            f"the control group {whose} has a limit of {limits.cpus:g} CPUs",
            "Raise the limit, or allow more time: --timeout 900",
            topic=CPUS,
        )
    if limits.pids is not None and limits.pids < PIDS:
        yield warn(
            NAME,
            f"the control group {whose} has a limit of {limits.pids} processes and threads; up to "
            f"{PIDS} are needed",
            "Raise the limit",
            topic=PROCESSES,
        )


def doctor(machine: Machine) -> Iterator[Finding]:
    facts = machine.facts
    whose = "that this process runs in"
    rows = list(judge(facts.own_group, memory.ENGINE, whose))
    limits = facts.own_group
    if not rows and limits is not None and limits != Limits():
        shown = ", ".join(_words(limits))
        rows = [ok(NAME, f"the control group {whose} allows {shown}")]
    yield from rows


def _words(limits: Limits) -> Iterator[str]:
    if limits.memory is not None:
        yield f"{size(limits.memory)} of memory"
    if limits.cpus is not None:
        yield f"{limits.cpus:g} CPUs"
    if limits.pids is not None:
        yield f"{limits.pids} processes"
