"""The UI of a running instance: do its three services answer through its port, as a page asks?"""

from __future__ import annotations

from collections.abc import Mapping

from compreface_cli.checks.base import Finding, fail, ok

NAME = "ui"
_UNHEALTHY = 8
_SERVICES = {"/admin/": "admin", "/api/": "api", "/core/": "core"}


def judge(instance: str, url: str, silent: Mapping[str, str]) -> Finding:
    """`silent`: route -> why a page goes on waiting for it ("status 502", "no answer")."""
    if not silent:
        return ok(NAME, f"the UI of {instance} and its services answer at {url}")
    routes = ", ".join(f"{route} ({fault})" for route, fault in silent.items())
    service = next(
        (word for prefix, word in _SERVICES.items() if next(iter(silent)).startswith(prefix)), "fe"
    )
    if len(silent) == len(_SERVICES):
        service = "fe"  # nothing comes through: the UI's own server says why
    return fail(
        NAME,
        _UNHEALTHY,
        f"the UI of {instance} waits for ever at {url}: no answer from {routes}",
        f"cf logs {instance} --service {service}\ncf restart {instance} --all",
    )
