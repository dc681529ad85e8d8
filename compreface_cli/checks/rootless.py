"""Rootless Docker: ports that it may not bind, and limits that it does not enforce."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFLICT, Finding, OwnedResources, fail, ok, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.checks.port import PRIVILEGED, published
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "rootless"
_FIRST = 1024  # where the kernel's setting is not known

ROOTLESS = Topic(
    "docker-rootless",
    means="The Docker engine runs without root, as this user.",
    why="It cannot bind ports below 1024, containers see other addresses of clients, and they end "
    "when the user logs out unless lingering is on.",
    see="`docker info` has `rootless` under Security Options.",
    ways=(
        "Let it run without a login: `sudo loginctl enable-linger $USER`.",
        "For low ports: `sudo sysctl net.ipv4.ip_unprivileged_port_start=80`.",
    ),
)

NO_LIMITS = Topic(
    "docker-no-limits",
    means="The Docker engine does not enforce limits of memory or processes: its kernel or its "
    "user lacks the controllers.",
    why="A large photograph could take the memory of the whole machine; the engine then "
    "relies on its own budget alone.",
    see="`docker info` prints `WARNING: No memory limit support`.",
    ways=(
        "For rootless Docker: use cgroup v2, and delegate the controllers to the user "
        "(https://docs.docker.com/engine/security/rootless/).",
        "For others: boot with `cgroup_enable=memory`.",
    ),
)


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher == "process" or docker is None or not docker.reachable:
        return
    yield from _limits(docker)
    if not docker.rootless:
        return
    first = facts.network.first_port if docker.local and facts.network else _FIRST
    for flag, _, port in published(plan):
        if 1 <= port < first:
            yield fail(
                NAME,
                CONFLICT,
                f"port {port} is privileged: rootless Docker may bind ports from {first} on",
                f"Choose {flag} between {first} and 65535.",
                topic=PRIVILEGED,
            )


def _limits(docker: DockerFacts) -> Iterator[Finding]:
    if docker.no_limits:
        yield warn(
            NAME,
            f"the Docker engine does not enforce limits of {' and '.join(docker.no_limits)}",
            "The engine keeps to its own budget of memory; other services are not limited.",
            topic=NO_LIMITS,
        )


def doctor(machine: Machine) -> Iterator[Finding]:
    docker = machine.facts.docker
    if docker is None or not docker.reachable:
        return
    yield from _limits(docker)
    if docker.rootless:
        yield warn(
            NAME,
            "the Docker engine is rootless: no ports below 1024, and it ends with this user's "
            "last session",
            "Let it run without a login: sudo loginctl enable-linger $USER",
            topic=ROOTLESS,
        )
    elif docker.user_namespaces:
        yield ok(NAME, "the Docker engine maps users (userns-remap)")
