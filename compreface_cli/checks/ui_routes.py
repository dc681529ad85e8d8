"""UI of a running instance: whether its services answer through the UI's port, as a page asks."""

from __future__ import annotations

from collections.abc import Mapping

from compreface_cli.checks.base import Finding, fail, ok
from compreface_cli.topics import Topic

NAME = "ui"

SILENT = Topic(
    "ui-silent",
    means="The UI waits for admin, api and engine through its own port, and one of them does "
    "not answer there.",
    why='The page says "CompreFace is starting ..." for ever. nginx keeps the addresses that '
    "it found at its start, so that a container that came back with another address "
    "stays out of reach.",
    see="`curl -i http://127.0.0.1:8000/admin/status`, and the same for "
    "`/api/v1/consistence/status` and `/core/status`.",
    ways=(
        "`cf restart INSTANCE --all`.",
        "`cf logs INSTANCE --explain` shows why a service does not answer.",
    ),
)
_UNHEALTHY = 8
_SERVICES = {"/admin/": "admin", "/api/": "api", "/core/": "core"}


def judge(instance: str, url: str, silent: Mapping[str, str]) -> Finding:
    """The finding for the UI at `url`; `silent`: route -> its fault ("status 502", "no answer")."""
    if not silent:
        return ok(NAME, f"the UI of {instance} and its services answer at {url}")
    routes = ", ".join(f"{route} ({fault})" for route, fault in silent.items())
    service = next(
        (word for prefix, word in _SERVICES.items() if next(iter(silent)).startswith(prefix)), "fe"
    )
    if len(silent) == len(_SERVICES):
        service = "fe"  # no route works: the log of the UI's own server has the cause
    return fail(
        NAME,
        _UNHEALTHY,
        f"the UI of {instance} at {url} waits forever: no answer from {routes}",
        f"cf logs {instance} --service {service}\ncf restart {instance} --all",
        topic=SILENT,
    )
