"""Memory: enough for the engine alone, or for the five services of the full stack."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import HARDWARE, Finding, OwnedResources, fail, ok, size, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "memory"

UNKNOWN = Topic(
    "memory-unknown",
    means="The amount of memory of the machine cannot be read.",
    why="Whether the services fit is not known.",
    see="`free -h`.",
    ways=(
        "Nothing needs to be done if there is enough: 600 MB for the engine, 2.5 GB for the "
        "full stack.",
    ),
)

TOO_LITTLE = Topic(
    "memory-too-little",
    means="The machine has less memory than the services need.",
    why="The kernel would kill one of them (exit code 137), mostly the api or the engine, "
    "again and again.",
    see="`free -h`.",
    ways=(
        "Start the engine alone: `cf up --services core`.",
        "Use a larger machine.",
    ),
)

LOW = Topic(
    "memory-low",
    means="There is enough memory in total, and other programs use it at present.",
    why="The kernel may kill one of the services (exit code 137).",
    see="`free -h`, and `ps aux --sort=-rss | head`.",
    ways=(
        "Stop other programs.",
        "Lower what the two Java services may take: ADMIN_JAVA_OPTS and API_JAVA_OPTS (`-Xmx`).",
    ),
)

# The engine with FaceNet stays below 600 MB. The two Java services and the database of the full
# stack take about 2 GB at rest; upstream lets the two heaps grow to 5 GB.
ENGINE = 600_000_000
STACK = 2_500_000_000


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    docker = facts.docker
    full = plan.services == "full" and plan.launcher != "process"
    total, available = facts.host.memory_total, facts.host.memory_available
    if plan.launcher != "process" and docker is not None and docker.reachable and not docker.local:
        total, available = docker.memory_total, None
    further = (plan.replicas - 1) * ENGINE if plan.launcher in ("auto", "compose") else 0
    yield judge(total, available, (STACK if full else ENGINE) + further)


def judge(total: int | None, available: int | None, needed: int) -> Finding:
    """Too little memory in total is a fail, too little available at present a warning; bytes."""
    if total is None:
        return warn(
            NAME,
            f"the amount of memory is not known; {size(needed)} are needed",
            topic=UNKNOWN,
        )
    if total < needed:
        return fail(
            NAME,
            HARDWARE,
            f"this machine has {size(total)} of memory; {size(needed)} are needed",
            "Use a larger machine, or start the engine alone: --services core.",
            topic=TOO_LITTLE,
        )
    if available is not None and available < needed:
        return warn(
            NAME,
            f"only {size(available)} of {size(total)} are available; {size(needed)} are needed",
            "Stop other programs, or the kernel may kill one of the services.",
            topic=LOW,
        )
    free = "" if available is None else f", {size(available)} available"
    return ok(NAME, size(total) + free)


def doctor(machine: Machine) -> Iterator[Finding]:
    host = machine.facts.host
    row = judge(host.memory_total, host.memory_available, ENGINE)
    if row.level == "ok" and host.memory_total is not None and host.memory_total < STACK:
        yield warn(
            NAME,
            f"{size(host.memory_total)}: enough for the engine, too little for the full stack "
            f"({size(STACK)})",
            "Start the engine alone: cf up --services core",
            topic=TOO_LITTLE,
        )
    else:
        yield row
