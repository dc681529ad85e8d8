"""Replaces and adds engines of a running stack: each is checked beside, then gets the name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from compreface_cli.cleanup import deferred
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
    ending: Callable[[Sequence[str]], None] = lambda _: None,
) -> None:
    """Give the checked engine the name and end the engines that it supersedes.

    `taking_over` is called before, `ending` before these end, with their ids. Raises
    UnhealthyError, with nothing changed, when the new one cannot be reached under the name.
    """
    key = after.engine.key
    with out.waiting("The new engine takes over"), _explained(successor, after, out):
        taking_over()
        successor.take_over(lambda at: is_up(at.url, key=key), key, out.note, ending)


def add(
    after: Deployment,
    answer: known_answer.KnownAnswer,
    out: Output,
    *,
    limit_s: float,
    supersedes: Sequence[str] = (),
    taking_over: Callable[[], None] = lambda: None,
    ending: Callable[[Sequence[str]], None] = lambda _: None,
) -> None:
    """Start a further engine of `after` beside those that run, check it and give it the name.

    Then the engines `supersedes` end, after their last requests.
    """
    from compreface_cli.launchers.compose import ComposeLauncher

    with ComposeLauncher().beside(after, supersedes) as successor:
        prove(successor, after, answer, out, limit_s=limit_s)
        take_over(successor, after, out, taking_over=taking_over, ending=ending)


def swap(
    after: Deployment,
    answer: known_answer.KnownAnswer,
    out: Output,
    *,
    limit_s: float,
    every: bool = True,
) -> None:
    """Replace the running engines by those of `after`, one after the other.

    `every`: also those that are of `after` already.
    """
    from compreface_cli.launchers.compose import ComposeLauncher

    launcher, count = ComposeLauncher(), after.replicas
    right, old = launcher.engines(after)
    if every:
        right, old = [], [*old, *right]
    for _ in range(count - len(right)):
        ends = old[:1] if count > 1 else old
        add(after, answer, out, limit_s=limit_s, supersedes=ends)
        old = old[len(ends) :]
    end([*old, *right[count:]], out)


def end(engines: Sequence[str], out: Output) -> None:
    """End these engines, one after the other; each finishes its requests first."""
    from compreface_cli.launchers import swap as engine_swap

    for engine in engines:
        out.note("  an engine finishes its requests, then ends")
        with deferred():
            engine_swap.end(engine)


@contextmanager
def _explained(successor: Successor, after: Deployment, out: Output) -> Iterator[None]:
    """Adds the engine's last lines and the likely cause to an UnhealthyError."""
    try:
        yield
    except UnhealthyError as error:
        out.note("The running engine stays as it is")
        error.details.setdefault("log", successor.last_lines())
        raise running.explain(error, after) from error
