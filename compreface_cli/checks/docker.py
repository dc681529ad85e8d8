"""Docker: installed, usable by this user, and new enough for the rendered project."""

from __future__ import annotations

import re
from collections.abc import Iterator

from compreface_cli.causes.docker import DENIED, SILENT, STOPPED
from compreface_cli.checks import compose_v1
from compreface_cli.checks.base import DOCKER, Finding, OwnedResources, as_warning, fail, ok
from compreface_cli.checks.machine import Machine
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "docker"

MISSING = Topic(
    "docker-missing",
    means="There is neither a `docker` program nor a socket of a Docker engine on this machine.",
    why="Images, the full stack with UI, API and database, and everything that survives a "
    "reboot need Docker. The engine alone does not.",
    see="`docker version` reports that the command does not exist.",
    ways=(
        "Install Docker Engine with the Compose plugin: https://docs.docker.com/engine/install/",
        "Run the engine alone, as a local process: `cf up --services core --launcher process`.",
    ),
)

BROKEN = Topic(
    "docker-error",
    means="The Docker engine, or the way to it, answered with an error.",
    why="`cf` cannot tell what runs.",
    see="The message contains the error; `docker version` should show the same one.",
    ways=(
        "See which engine is meant: `docker context ls`, and DOCKER_HOST.",
        "For ssh:// and TLS addresses: try `docker -H ADDRESS info` by hand first.",
    ),
)

OLD = Topic(
    "docker-old",
    means="The Docker engine is older than 25.0.",
    why="The health checks of the project use `start_interval`, which older engines refuse "
    "or ignore.",
    see="`docker version` prints the version of the server.",
    ways=(
        "Update the engine: https://docs.docker.com/engine/install/",
        "Run the engine alone: `cf up --services core --launcher process`.",
    ),
)

NO_COMPOSE = Topic(
    "compose-missing",
    means="The `docker` program has no Compose v2 plugin: `docker compose` does not answer.",
    why="`cf up` starts containers through it. An old `docker-compose` (v1) does not replace "
    "it: see `cf explain compose-v1`.",
    see="`docker compose version`.",
    ways=(
        "Install the package docker-compose-plugin: https://docs.docker.com/compose/install/",
        "Run the engine alone: `cf up --services core --launcher process`.",
    ),
)

OLD_COMPOSE = Topic(
    "compose-old",
    means="The Compose plugin is older than 2.20.3.",
    why="Older ones do not know `start_interval` in a health check, and refuse the project.",
    see="`docker compose version`.",
    ways=(
        "Update the package docker-compose-plugin: https://docs.docker.com/compose/install/",
        "Run the engine alone: `cf up --services core --launcher process`.",
    ),
)

# The health checks use `start_interval`: the engine knows it from 25.0 on, Compose from 2.20.3 on.
MIN_ENGINE = (25, 0)
MIN_COMPOSE = (2, 20, 3)

_WITHOUT = "Without Docker, the engine can run alone: --services core --launcher process."


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    if plan.launcher != "process" and facts.docker is not None:
        yield from judge(facts.docker)


def judge(docker: DockerFacts) -> Iterator[Finding]:
    if not docker.reachable:
        message, hint, topic = _unreachable(docker)
        yield fail(
            NAME,
            DOCKER,
            message,
            f"{hint} {_WITHOUT}",
            topic=topic,
        )
        return
    engine = f"Docker Engine {docker.engine_version}"
    if version(docker.engine_version) < MIN_ENGINE:
        yield fail(
            NAME,
            DOCKER,
            f"{engine} is too old; {_text(MIN_ENGINE)} or newer is needed",
            f"Update it: https://docs.docker.com/engine/install/ {_WITHOUT}",
            topic=OLD,
        )
    else:
        yield ok(NAME, f"{engine} at {docker.endpoint}")
    if (only_v1 := compose_v1.judge(docker)) is not None:
        yield only_v1
    elif docker.compose_version is None:
        yield fail(
            NAME,
            DOCKER,
            f"Docker Compose v2 does not answer: {docker.compose_error}",
            f"Install its plugin: https://docs.docker.com/compose/install/ {_WITHOUT}",
            topic=NO_COMPOSE,
        )
    elif version(docker.compose_version) < MIN_COMPOSE:
        yield fail(
            NAME,
            DOCKER,
            f"Docker Compose {docker.compose_version} is too old; "
            f"{_text(MIN_COMPOSE)} or newer is needed",
            f"Update its plugin: https://docs.docker.com/compose/install/ {_WITHOUT}",
            topic=OLD_COMPOSE,
        )
    else:
        yield ok(NAME, f"Docker Compose {docker.compose_version}")


def version(text: str | None) -> tuple[int, ...]:
    """`26.1.5+dfsg1` -> (26, 1, 5); () for anything else, which is older than every version."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", text or "")
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in numbers)


def _unreachable(docker: DockerFacts) -> tuple[str, str, Topic]:
    where = docker.endpoint
    match docker.state:
        case "no-socket" if docker.client is None:
            return (
                "Docker is not installed: there is neither a docker program nor a socket",
                "Install it: https://docs.docker.com/engine/install/",
                MISSING,
            )
        case "no-socket" | "refused":
            return (
                f"the Docker engine is not running: nothing answers at {where}",
                "Start it (systemctl start docker, or Docker Desktop).",
                STOPPED,
            )
        case "denied":
            return (
                f"this user may not use the Docker engine at {where}: permission denied",
                "Add the user to the group docker (sudo usermod -aG docker $USER), "
                "then log in again.",
                DENIED,
            )
        case "timeout":
            return (
                f"the Docker engine at {where} does not answer ({docker.error})",
                "Look for the cause (docker info, journalctl -u docker) or restart it.",
                SILENT,
            )
        case _:
            return (
                f"the Docker engine at {where} cannot be queried: {docker.error}",
                "`docker context ls` and DOCKER_HOST show the address that is used.",
                BROKEN,
            )


def doctor(machine: Machine) -> Iterator[Finding]:
    """Docker's rows; failures are warnings, since the process launcher needs no Docker."""
    if machine.facts.docker is not None:
        yield from map(as_warning, judge(machine.facts.docker))
