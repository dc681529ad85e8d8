"""SELinux in force: bind mounts of the user's own need a label that containers may read."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import Finding, OwnedResources, ok, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "selinux"

ENFORCING = Topic(
    "selinux",
    means="SELinux is in force, and Docker uses it.",
    why="A container may read a folder of the host only if it has the container's label. The files "
    "that `cf` mounts get it (`z`); bind mounts in your own compose.override.yaml do not by "
    "themselves, and the service gets `Permission denied`.",
    see="`getenforce`, `ls -lZ FOLDER`, and `ausearch -m avc -ts recent` for what was refused.",
    ways=(
        "Add `:z` to the bind mount (shared) or `:Z` (for one container), as in `./my:/data:ro,z`.",
        "Never put `:z` on a system folder such as /home or /etc: it labels all files in it.",
        "Use a volume of Docker, which needs no label.",
    ),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher == "process" or docker is None or not docker.reachable or not docker.local:
        return
    if _enforced(facts) and own.bind_mounts:
        yield warn(
            NAME,
            f"SELinux is in force, and these bind mounts have no label: "
            f"{', '.join(own.bind_mounts)}",
            "Add :z to each in compose.override.yaml, or the service cannot read it.",
            topic=ENFORCING,
        )


def _enforced(facts: Facts) -> bool:
    docker, network = facts.docker, facts.network
    return bool(network and network.selinux and docker and docker.selinux)


def doctor(machine: Machine) -> Iterator[Finding]:
    facts = machine.facts
    if facts.network is not None and facts.network.selinux:
        uses = "Docker uses it" if _enforced(facts) else "Docker does not use it"
        yield ok(NAME, f"SELinux is in force; {uses}")
