"""Replaces the engine of a running stack: checks the new one beside it, then gives it the name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from compreface_cli.deploy import running
from compreface_cli.engine import known_answer
from compreface_cli.engine.client import is_up
from compreface_cli.errors import UnhealthyError
from compreface_cli.instance.state import Deployment
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.launchers.swap import Successor


def obstacle(before: Deployment, after: Deployment, *, rendered: str | None = None) -> str:
    """Why the two engines cannot run side by side under one name; "" when they can.

    `rendered`: a compose.yaml that is not in the project's folder yet.
    """
    if "process" in (before.launcher, after.launcher):
        return "a local process occupies its port until it ends"
    if before.launcher != after.launcher:
        return "another launcher has its ports and its database's volume until it is stopped"
    if before.launcher == "swarm":
        return "Swarm itself replaces engines"
    from compreface_cli.launchers.compose import ComposeLauncher

    return ComposeLauncher().obstacle(before, after, rendered=rendered)


def prove(
    successor: Successor,
    after: Deployment,
    answer: known_answer.KnownAnswer,
    out: Output,
    *,
    limit_s: float,
) -> None:
    """Check the engine that runs next to the old one with the reference face.

    Raises UnhealthyError, with nothing changed, when it does not start or answers incorrectly.
    """
    deadline = time.monotonic() + limit_s
    with out.waiting("Waiting for the new engine's answer"), _explained(successor, after, out):
        endpoint = successor.endpoint(after.engine.key)
        known_answer.wait(endpoint, successor.look, deadline)
        known_answer.check(endpoint, answer, deadline)


def take_over(
    successor: Successor,
    after: Deployment,
    out: Output,
    *,
    taking_over: Callable[[], None] = lambda: None,
) -> None:
    """Give the checked engine the old one's name and end the old one.

    `taking_over` is called before. Raises UnhealthyError, with nothing changed, when the new one
    cannot be reached under the name.
    """
    key = after.engine.key
    with out.waiting("The new engine takes over"), _explained(successor, after, out):
        taking_over()
        successor.take_over(lambda at: is_up(at.url, key=key), key, out.note)


def swap(
    after: Deployment, answer: known_answer.KnownAnswer, out: Output, *, limit_s: float
) -> None:
    """Replace the running engine by that of `after`, from its start to the old one's end."""
    from compreface_cli.launchers.compose import ComposeLauncher

    with ComposeLauncher().beside(after) as successor:
        prove(successor, after, answer, out, limit_s=limit_s)
        take_over(successor, after, out)


@contextmanager
def _explained(successor: Successor, after: Deployment, out: Output) -> Iterator[None]:
    """Adds the engine's last lines and the likely cause to an UnhealthyError."""
    try:
        yield
    except UnhealthyError as error:
        out.note("The running engine stays as it is")
        error.details.setdefault("log", successor.last_lines())
        raise running.explain(error, after) from error
