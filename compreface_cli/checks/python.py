"""The Python version: whether it is new enough for `cf`."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import CONFIGURATION, Finding, fail, ok
from compreface_cli.checks.docker import version
from compreface_cli.checks.machine import Machine
from compreface_cli.topics import Topic

NAME = "python"

OLD = Topic(
    "python-old",
    means="The Python that runs `cf` is older than 3.11.",
    why="Parts of `cf` do not work with it.",
    see="`python3 --version`.",
    ways=("Install a newer Python, and `cf` with it.",),
)
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
        topic=OLD,
    )
