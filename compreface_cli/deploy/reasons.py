"""Why a service does not keep running or does not become ready, and whether an engine is slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from compreface_cli.checks import log_engine, log_messages
from compreface_cli.checks.log_messages import Reason
from compreface_cli.engine import client
from compreface_cli.errors import CfError
from compreface_cli.instance.state import Deployment, Endpoint, ServiceState
from compreface_cli.launchers.launcher import Launcher
from compreface_cli.topics import Topic

LATE_S = 1.0  # a health check that takes longer is late; one that is well takes milliseconds
_ALLOWED_S = 5.0
_TRIES = 3
_LINES = 200  # a stack trace of Spring has 100
_SOON_S = 60.0  # a service that ended so shortly ago, and not for the first time, ends again

LATE = Topic(
    "engine-late",
    means="The engine answers its health check, and takes more than a second each time.",
    why="It shares the processors with other work, or computes more than they can do; "
    "requests take longer too, and clients with short timeouts give up.",
    see="`top`, and `curl -s -o /dev/null -w '%{time_total}' http://127.0.0.1:3000/status`.",
    ways=(
        "Stop other work on the machine, or limit it.",
        "Use a faster build: `cf list-builds --for speed`.",
        "Give the container more CPUs if compose.override.yaml limits them.",
    ),
)


@dataclass(frozen=True, slots=True)
class Slow:
    """What makes an engine slow, as measured."""

    topic: Topic
    says: str


def crash_loops(service: ServiceState, now: datetime | None = None) -> bool:
    """Whether the service ends again and again: between two starts, or soon after a later one."""
    if service.state == "restarting":
        return True
    if service.restarts < 2 or service.state not in ("running", "starting") or not service.since:
        return False
    began = datetime.fromisoformat(service.since)
    return ((now or datetime.now(UTC)) - began).total_seconds() < _SOON_S


def of(launcher: Launcher, deployed: Deployment, service: ServiceState) -> Reason | None:
    """Why it ended or is not ready, by its log and its end; None when nothing says so."""
    lines: Sequence[str] = ()
    try:
        lines = list(launcher.logs(deployed, tail=_LINES, follow=False, service=service.name))
    except CfError:
        pass  # its end may say enough
    return log_messages.reason(
        service.name,
        lines,
        exit_code=service.exit_code,
        out_of_memory=service.out_of_memory,
    )


def seconds(engine: Endpoint) -> float | None:
    """The shortest time of some health checks, in seconds; None: the engine does not answer.

    A first answer in time is enough: only one that is late is asked again.
    """
    best = None
    for _ in range(_TRIES):
        taken = client.seconds(engine.url, key=engine.key, timeout_s=_ALLOWED_S)
        if taken is None:
            return best
        best = taken if best is None else min(best, taken)
        if best <= LATE_S:
            break
    return best


def slow(engine: Endpoint, taken_s: float) -> Slow | None:
    """What makes an engine slow whose health check took `taken_s`; None when nothing does.

    Late answers and a full queue are facts; how long requests take depends on the photographs.
    """
    if taken_s > LATE_S:
        return Slow(LATE, f"its health check took {taken_s:.1f} s, {_TRIES} times in a row")
    gauges = client.gauges(engine.url, key=engine.key)
    waiting = gauges.get("compreface_queue_length", 0)
    limit = gauges.get("compreface_queue_limit", 0)
    if limit and waiting >= limit:
        return Slow(
            log_engine.OVERLOADED,
            f"its queue is full: {waiting:.0f} requests wait, and it refuses further ones",
        )
    return None
