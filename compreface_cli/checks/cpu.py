"""CPU flags: whether the CPU has those that the plan's runtime needs (table in runtimes.py)."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import HARDWARE, Finding, OwnedResources, fail, ok, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.runtimes import needed
from compreface_cli.topics import Topic

NAME = "cpu"

UNKNOWN = Topic(
    "cpu-unknown",
    means="The instructions that the processor knows cannot be read.",
    why="If one is missing, the engine ends with an illegal instruction.",
    see="`grep -m1 flags /proc/cpuinfo` on the host of the engine.",
    ways=("Nothing needs to be done unless the start fails.",),
)

LACKS = Topic(
    "cpu-instructions",
    means="The processor lacks instructions that the runtime of the build is compiled with.",
    why="The engine would end with an illegal instruction (SIGILL, exit code 132), at its "
    "start or at the first photograph.",
    see="`grep -m1 flags /proc/cpuinfo`.",
    ways=(
        "In a virtual machine, pass the processor of the host through (QEMU: `-cpu host`).",
        "Use a machine with a newer processor.",
    ),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher != "process" and docker is not None and docker.reachable and not docker.local:
        if docker.architecture == "amd64":
            yield warn(
                NAME,
                "the Docker engine is on another host, whose CPU flags are not known",
                "There, `grep -m1 flags /proc/cpuinfo` must name "
                f"{' '.join(needed(plan.runtime))}.",
                topic=UNKNOWN,
            )
        return
    yield judge(facts.host.cpu_flags, plan.runtime, facts.host.architecture)


def judge(flags: frozenset[str] | None, runtime: str, architecture: str) -> Finding:
    wanted = needed(runtime, architecture)
    if not wanted:
        return ok(NAME, f"{runtime} needs no special flags on {architecture}")
    if flags is None:
        return warn(
            NAME,
            f"the CPU flags cannot be read here; {runtime} needs {' '.join(wanted)}",
            topic=UNKNOWN,
        )
    lacking = [name for name in wanted if name not in flags]
    if not lacking:
        return ok(NAME, f"all flags that {runtime} needs ({' '.join(wanted)})")
    return fail(
        NAME,
        HARDWARE,
        f"this CPU lacks {' '.join(lacking)}, which {runtime} needs: "
        "it would crash with an illegal instruction",
        "Use a machine with a newer CPU. In a virtual machine, pass the host's CPU model through "
        "(QEMU: -cpu host).",
        topic=LACKS,
    )


def doctor(machine: Machine) -> Iterator[Finding]:
    host = machine.facts.host
    yield judge(host.cpu_flags, "onnxruntime", host.architecture)
