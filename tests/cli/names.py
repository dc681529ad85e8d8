"""Asserts what a message names; its wording stands in the golden files (tests/golden/messages)."""

from __future__ import annotations


def assert_named(message: str | None, *things: object) -> None:
    """Each of these stands in the message: a path, a port, a plugin, a flag, a command, a figure.

    What the system or another program says is such a thing too: it is passed on as it is.
    """
    missing = [str(thing) for thing in things if str(thing) not in (message or "")]
    assert not missing, f"{missing} not in {message!r}"
