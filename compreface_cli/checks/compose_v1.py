"""Compose: whether only the old `docker-compose` (v1) is here, which cannot start a project."""

from __future__ import annotations

from compreface_cli.checks.base import DOCKER, Finding, fail
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.topics import Topic

NAME = "docker"

ONLY_V1 = Topic(
    "compose-v1",
    means="Only `docker-compose`, version 1, is on this machine, and not the plugin `docker "
    "compose`.",
    why="Version 1 has had no updates since 2023. It knows neither `start_interval` nor "
    "conditions of `depends_on` as `cf` renders them, and names containers in another "
    "way.",
    see="`docker-compose version`, and `docker compose version`.",
    ways=(
        "Install the package docker-compose-plugin: https://docs.docker.com/compose/install/linux/",
        "Both can be there at once. Projects that version 1 started keep their volumes; "
        "start them with `docker compose` from then on.",
        "Run the engine alone: `cf up --services core --launcher process`.",
    ),
)


def judge(docker: DockerFacts) -> Finding | None:
    """The fault when the plugin is missing and the old program is there; None otherwise."""
    if docker.compose_version is not None or docker.compose_v1 is None:
        return None
    return fail(
        NAME,
        DOCKER,
        f"only docker-compose {docker.compose_v1} is here: the old version 1, which cannot start "
        "a project of cf",
        "Install the Compose plugin beside it: https://docs.docker.com/compose/install/linux/",
        topic=ONLY_V1,
    )
