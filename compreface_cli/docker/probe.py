"""A bounded question to the Docker engine: which of our images and containers are there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compreface_cli.docker import client
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_INSTANCE
from compreface_cli.errors import DockerError

TIMEOUT_S = 0.5  # for all answers together: a list must not wait for a hanging engine


@dataclass(frozen=True, slots=True)
class Quick:
    """Image names by build, and the instances with a running engine by build."""

    images: Mapping[str, tuple[str, ...]]
    running: Mapping[str, tuple[str, ...]]


def ask(timeout_s: float = TIMEOUT_S) -> Quick | None:
    """What the engine says within the time; None when it does not."""
    end = time.monotonic() + timeout_s
    filters = {"label": [LABEL_BUILD]}

    def ours(what: str) -> Any:
        return client.get(what, "json", timeout_s=end - time.monotonic(), filters=filters)

    try:
        return Quick(_images(ours("images")), _running(ours("containers")))
    except (DockerError, TypeError, AttributeError):  # no answer, or one that makes no sense
        return None


def _images(rows: Any) -> dict[str, tuple[str, ...]]:
    by_build: dict[str, tuple[str, ...]] = {}
    for row in rows:
        build = (row.get("Labels") or {}).get(LABEL_BUILD)
        tags = tuple(tag for tag in row.get("RepoTags") or () if tag != "<none>:<none>")
        if build and tags:
            by_build[build] = (*by_build.get(build, ()), *tags)
    return by_build


def _running(rows: Any) -> dict[str, tuple[str, ...]]:
    by_build: dict[str, tuple[str, ...]] = {}
    for row in rows:
        labels = row.get("Labels") or {}
        build, instance = labels.get(LABEL_BUILD), labels.get(LABEL_INSTANCE)
        if build and instance and row.get("State") == "running":
            by_build[build] = (*by_build.get(build, ()), instance)
    return by_build
