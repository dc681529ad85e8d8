"""The engine's private virtual environment: whether it works, or can be made on this machine."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFIGURATION, Finding, fail, ok, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.topics import Topic

NAME = "engine"

BROKEN = Topic(
    "engine-environment-broken",
    means="The Python environment in which a local engine runs does not work.",
    why="`cf up --launcher process` fails. Containers have their own.",
    see="`cf doctor` runs its self-check and prints the reason.",
    ways=(
        "Remove the folder; the next `cf up` makes a new one.",
        "Install `cf` again if a part of it is missing.",
    ),
)

IMPOSSIBLE = Topic(
    "engine-environment-impossible",
    means="This Python has neither pip nor ensurepip, so that it cannot make an environment "
    "for a local engine.",
    why="`cf up --launcher process` fails. Containers have their own.",
    see="`python3 -m ensurepip --version`.",
    ways=(
        "On Debian and Ubuntu: `apt-get install python3-venv`.",
        "Use Docker.",
    ),
)


def doctor(machine: Machine) -> Iterator[Finding]:
    environment = machine.environment
    if environment.error and environment.folder is None:
        yield fail(
            NAME,
            1,
            environment.error,
            "Install cf again: a part of it is missing.",
            topic=BROKEN,
        )
    elif environment.error:
        yield fail(
            NAME,
            1,
            f"the engine's environment {environment.folder} is broken: {environment.error}",
            f"Remove it; the next `cf up` makes a new one: rm -r {environment.folder}",
            topic=BROKEN,
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
        return warn(
            NAME,
            f"{message} (only needed without Docker)",
            way_out,
            topic=IMPOSSIBLE,
        )
    return fail(
        NAME,
        CONFIGURATION,
        message,
        way_out,
        topic=IMPOSSIBLE,
    )
