"""The user's settings, build files and instance records, and the state of running instances."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import Finding, ok, warn
from compreface_cli.checks.machine import Machine
from compreface_cli.topics import Topic

UNREADABLE = Topic(
    "file-unreadable",
    means="A build file or the record of an instance cannot be read.",
    why="The build, or the instance, is left out of every list.",
    see="The message names the file and the fault.",
    ways=("Correct the file or move it away.",),
)

SETTINGS = Topic(
    "settings-invalid",
    means="A setting has a value that `cf` does not accept.",
    why="`cf up` would refuse to start.",
    see="`cf config list` shows each setting with its origin.",
    ways=("Correct or remove it where the message says.",),
)

NOTE = Topic(
    "settings-note",
    means="A setting has no effect, or not the one that it seems to have.",
    why="The instance runs with other values than one may think.",
    see="`cf config list` shows each setting with its origin.",
    ways=("Remove it.",),
)


def instances(machine: Machine) -> Iterator[Finding]:
    """For each running instance: whether its UI answers, and what its database contains."""
    yield from machine.uis
    yield from machine.databases


def settings(machine: Machine) -> Iterator[Finding]:
    """The faults of the settings, and whether the build that they choose fits the UI."""
    valid = ok("settings", "all values that are set are valid for `cf up`")
    yield from machine.settings or [valid]
    yield from machine.ui


def unreadable(machine: Machine) -> Iterator[Finding]:
    """Build files and instance records that cannot be read."""
    for what, why in machine.broken.items():
        yield warn(
            "files",
            f"{what} cannot be read: {why}",
            "Correct the file or move it away.",
            topic=UNREADABLE,
        )
