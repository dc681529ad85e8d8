"""CPU flags: whether the CPU has those that the plan's runtime needs (table in runtimes.py)."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import HARDWARE, Finding, OwnedResources, fail, ok, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.runtimes import needed

NAME = "cpu"


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher != "process" and docker is not None and docker.reachable and not docker.local:
        if docker.architecture == "amd64":
            yield warn(
                NAME,
                "the Docker engine is on another host, whose CPU flags are not known",
                "There, `grep -m1 flags /proc/cpuinfo` must name "
                f"{' '.join(needed(plan.runtime))}.",
            )
        return
    yield judge(facts.host.cpu_flags, plan.runtime, facts.host.architecture)


def judge(flags: frozenset[str] | None, runtime: str, architecture: str) -> Finding:
    wanted = needed(runtime, architecture)
    if not wanted:
        return ok(NAME, f"{runtime} needs no special flags on {architecture}")
    if flags is None:
        return warn(NAME, f"the CPU flags cannot be read here; {runtime} needs {' '.join(wanted)}")
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
    )


def doctor(machine: Machine) -> Iterator[Finding]:
    host = machine.facts.host
    yield judge(host.cpu_flags, "onnxruntime", host.architecture)
