"""Settings, builds and records of this user, and what the running instances answer."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import Finding, ok, warn
from compreface_cli.checks.machine import Machine


def instances(machine: Machine) -> Iterator[Finding]:
    """Of each running instance: whether its UI answers, and what its database holds."""
    yield from machine.uis
    yield from machine.databases


def settings(machine: Machine) -> Iterator[Finding]:
    """What is wrong with them, and whether the build they choose fits the UI."""
    sound = ok("settings", "every value that is set is one that `cf up` takes")
    yield from machine.settings or [sound]
    yield from machine.ui


def unreadable(machine: Machine) -> Iterator[Finding]:
    """Builds and records that cannot be read."""
    for what, why in machine.broken.items():
        yield warn("files", f"{what} cannot be read: {why}", "Correct the file or move it away.")
