"""The user's settings, build files and instance records, and the state of running instances."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import Finding, ok, warn
from compreface_cli.checks.machine import Machine


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
        yield warn("files", f"{what} cannot be read: {why}", "Correct the file or move it away.")
