"""The engine's private virtual environment: whether it works, or can be made on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFIGURATION, Finding, fail, ok, warn
from compreface_cli.checks.machine import Machine

NAME = "engine"


def doctor(machine: Machine) -> Iterator[Finding]:
    environment = machine.environment
    if environment.error and environment.folder is None:
        yield fail(NAME, 1, environment.error, "Install cf again: a part of it is missing.")
    elif environment.error:
        yield fail(
            NAME,
            1,
            f"the engine's environment {environment.folder} is broken: {environment.error}",
            f"Remove it; the next `cf up` makes a new one: rm -r {environment.folder}",
        )
    elif environment.folder is not None:
        yield ok(NAME, f"the engine's environment works: {environment.folder}")
    elif environment.can_be_made:
        yield ok(NAME, "no environment yet; the first `cf up` without Docker makes it")
    else:
        yield _cannot_be_made(machine)


def _cannot_be_made(machine: Machine) -> Finding:
    message = "this Python cannot make the engine's environment: it has neither pip nor ensurepip"
    way_out = "On Debian and Ubuntu: apt-get install python3-venv"
    if machine.facts.docker is not None and machine.facts.docker.reachable:
        return warn(NAME, f"{message} (only needed without Docker)", way_out)
    return fail(NAME, CONFIGURATION, message, way_out)
