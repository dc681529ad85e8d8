"""UI of a running instance: whether its services answer through the UI's port, as a page asks."""

from __future__ import annotations

from collections.abc import Mapping

from compreface_cli.checks.base import Finding, fail, ok

NAME = "ui"
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
    )
