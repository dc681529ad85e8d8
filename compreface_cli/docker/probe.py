"""A bounded question to the Docker socket: which of our images and containers are there."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

_BUILD = "compreface-cli.build"
_INSTANCE = "compreface-cli.instance"
_SOCKET = "unix:///var/run/docker.sock"
TIMEOUT_S = 0.5  # for both answers together: a list must not wait for a hanging daemon
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Quick:
    """Image names by build, and the instances with a running engine by build."""

    images: Mapping[str, tuple[str, ...]]
    running: Mapping[str, tuple[str, ...]]


def ask(address: str | None = None, timeout_s: float = TIMEOUT_S) -> Quick | None:
    """What Docker says within the time; None when it does not, or is not on a local socket."""
    address = address or os.environ.get("DOCKER_HOST") or _SOCKET
    if not address.startswith("unix://"):
        return None
    path, end = address.removeprefix("unix://"), time.monotonic() + timeout_s
    wanted = quote(json.dumps({"label": [_BUILD]}))
    try:
        images = _get(path, f"/images/json?filters={wanted}", end)
        containers = _get(path, f"/containers/json?filters={wanted}", end)
        return Quick(_images(images), _running(containers))
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        return None


def _get(path: str, target: str, end: float) -> Any:
    """The JSON of one GET. HTTP/1.0, so that the daemon ends its answer by closing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _limit(connection, end)
        connection.connect(path)
        connection.sendall(f"GET {target} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        answer = bytearray()
        while True:
            _limit(connection, end)
            piece = connection.recv(65536)
            if not piece:
                break
            answer += piece
            if len(answer) > _MAX_BYTES:
                raise ValueError("the answer is too long")
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise ValueError("the daemon refused")
    return json.loads(body)


def _limit(connection: socket.socket, end: float) -> None:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)


def _images(rows: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        build = (row.get("Labels") or {}).get(_BUILD)
        tags = tuple(tag for tag in row.get("RepoTags") or () if tag != "<none>:<none>")
        if build and tags:
            found[build] = (*found.get(build, ()), *tags)
    return found


def _running(rows: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        labels = row.get("Labels") or {}
        build, instance = labels.get(_BUILD), labels.get(_INSTANCE)
        if build and instance and row.get("State") == "running":
            found[build] = (*found.get(build, ()), instance)
    return found
