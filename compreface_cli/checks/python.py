"""The Python version: whether it is new enough for `cf`."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFIGURATION, Finding, fail, ok
from compreface_cli.checks.docker import version
from compreface_cli.checks.machine import Machine

NAME = "python"
MINIMUM = (3, 11)


def doctor(machine: Machine) -> Iterator[Finding]:
    present = machine.facts.host.python
    if version(present) >= MINIMUM:
        yield ok(NAME, f"Python {present}")
        return
    needed = ".".join(map(str, MINIMUM))
    yield fail(
        NAME,
        CONFIGURATION,
        f"Python {present} is too old; {needed} or newer is needed",
        "Install a newer Python and install cf with it.",
    )
