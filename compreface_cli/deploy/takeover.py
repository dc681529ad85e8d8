"""Replaces the engine of a running stack: it is proven beside the old one, then takes its name."""

from __future__ import annotations

import time
from collections.abc import Callable

from compreface_cli.deploy import running
from compreface_cli.engine import known_answer
from compreface_cli.engine.client import is_up
from compreface_cli.errors import UnhealthyError
from compreface_cli.instance.state import Deployment
from compreface_cli.terminal.output import Output


def obstacle(before: Deployment, after: Deployment, *, rendered: str | None = None) -> str:
    """Why the two engines cannot stand side by side under one name; "" when they can.

    `rendered`: a compose.yaml that does not stand in the project's folder yet.
    """
    if "process" in (before.launcher, after.launcher):
        return "a local process has one port, and no other can take it meanwhile"
    from compreface_cli.launchers.compose import ComposeLauncher

    return ComposeLauncher().obstacle(before, after, rendered=rendered)


def swap(
    after: Deployment,
    answer: known_answer.KnownAnswer,
    out: Output,
    *,
    limit_s: float,
    taking_over: Callable[[], None] = lambda: None,
) -> None:
    """The engine of `after` for the one that runs; `taking_over` is called before that gives way.

    Raises UnhealthyError, with nothing changed, when it does not start or answers wrongly.
    """
    from compreface_cli.launchers.compose import ComposeLauncher

    key = after.engine.key
    waiting = out.waiting("Waiting for the new engine's answer")
    with waiting as say, ComposeLauncher().beside(after) as successor:
        deadline = time.monotonic() + limit_s
        try:
            endpoint = successor.endpoint(key)
            known_answer.wait(endpoint, successor.look, deadline)
            known_answer.check(endpoint, answer, deadline)
            say("The new engine takes over")
            taking_over()
            successor.take_over(lambda at: is_up(at.url, key=key), key, out.note)
        except UnhealthyError as error:
            out.note("The running engine stays as it is")
            error.details.setdefault("log", successor.last_lines())
            raise running.explain(error, after) from error
