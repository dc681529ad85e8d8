"""A quick query of the Docker engine: the images and running instances of each build."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compreface_cli.docker import client
from compreface_cli.docker.labels import LABEL_BUILD, LABEL_INSTANCE
from compreface_cli.errors import DockerError

TIMEOUT_S = 0.5  # for all answers together: `list-builds` must not wait for an engine that hangs


@dataclass(frozen=True, slots=True)
class Quick:
    """Image names, and instances with a running engine, by the name of their build."""

    images: Mapping[str, tuple[str, ...]]
    running: Mapping[str, tuple[str, ...]]


def ask(timeout_s: float = TIMEOUT_S) -> Quick | None:
    """The engine's answer; None without a valid one within `timeout_s`."""
    end = time.monotonic() + timeout_s
    filters = {"label": [LABEL_BUILD]}

    def labelled(what: str) -> Any:
        return client.get(what, "json", timeout_s=end - time.monotonic(), filters=filters)

    try:
        return Quick(_images(labelled("images")), _running(labelled("containers")))
    except (DockerError, TypeError, AttributeError):  # no answer, or an invalid one
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
