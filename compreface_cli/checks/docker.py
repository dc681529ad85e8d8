"""Docker: installed, usable by this user, and new enough for the rendered project."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compreface_cli.checks.base import DOCKER, Finding, OwnedResources, as_warning, fail, ok
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.plan.plan import Plan

NAME = "docker"

# The health checks use `start_interval`: the engine knows it from 25.0 on, Compose from 2.20.3 on.
MIN_ENGINE = (25, 0)
MIN_COMPOSE = (2, 20, 3)

_WITHOUT = "Without Docker, the engine can run alone: --services core --launcher process."


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    if plan.launcher != "process" and facts.docker is not None:
        yield from judge(facts.docker)


def judge(docker: DockerFacts) -> Iterator[Finding]:
    if not docker.reachable:
        message, hint = _unreachable(docker)
        yield fail(NAME, DOCKER, message, f"{hint} {_WITHOUT}")
        return
    engine = f"Docker Engine {docker.engine_version}"
    if version(docker.engine_version) < MIN_ENGINE:
        yield fail(
            NAME,
            DOCKER,
            f"{engine} is too old; {_text(MIN_ENGINE)} or newer is needed",
            f"Update it: https://docs.docker.com/engine/install/ {_WITHOUT}",
        )
    else:
        yield ok(NAME, f"{engine} at {docker.endpoint}")
    if docker.compose_version is None:
        yield fail(
            NAME,
            DOCKER,
            f"Docker Compose v2 does not answer: {docker.compose_error}",
            f"Install its plugin: https://docs.docker.com/compose/install/ {_WITHOUT}",
        )
    elif version(docker.compose_version) < MIN_COMPOSE:
        yield fail(
            NAME,
            DOCKER,
            f"Docker Compose {docker.compose_version} is too old; "
            f"{_text(MIN_COMPOSE)} or newer is needed",
            f"Update its plugin: https://docs.docker.com/compose/install/ {_WITHOUT}",
        )
    else:
        yield ok(NAME, f"Docker Compose {docker.compose_version}")


def version(text: str | None) -> tuple[int, ...]:
    """`26.1.5+dfsg1` -> (26, 1, 5); () for anything else, which is older than every version."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text or "")
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in numbers)


def _unreachable(docker: DockerFacts) -> tuple[str, str]:
    where = docker.endpoint
    match docker.state:
        case "no-socket" if docker.client is None:
            return (
                "Docker is not installed: there is neither a docker program nor a socket",
                "Install it: https://docs.docker.com/engine/install/",
            )
        case "no-socket" | "refused":
            return (
                f"the Docker engine is not running: nothing answers at {where}",
                "Start it (systemctl start docker, or Docker Desktop).",
            )
        case "denied":
            return (
                f"this user may not use the Docker engine at {where}: permission denied",
                "Add the user to the group docker (sudo usermod -aG docker $USER), "
                "then log in again.",
            )
        case "timeout":
            return (
                f"the Docker engine at {where} does not answer ({docker.error})",
                "Look for the cause (docker info, journalctl -u docker) or restart it.",
            )
        case _:
            return (
                f"the Docker engine at {where} cannot be queried: {docker.error}",
                "`docker context ls` and DOCKER_HOST show the address that is used.",
            )


def doctor(machine: Machine) -> Iterator[Finding]:
    """Docker's rows; failures are warnings, since the process launcher needs no Docker."""
    if machine.facts.docker is not None:
        yield from map(as_warning, judge(machine.facts.docker))
