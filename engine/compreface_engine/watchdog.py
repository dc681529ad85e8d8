"""A second process that ends the engine when its event loop stands still: the loop cannot itself.

C code that hangs with Python's lock held stops every thread of Python. A process beside the engine
hears it beat (`Heart`) and kills it when it hears nothing for too long. The clock of the watcher
stands still with the engine's (suspend, `docker pause`), and an engine that a signal has stopped is
not silent, so neither counts. `faulthandler.dump_traceback_later` of the standard library needs no
second process, but its deadline goes on while the engine is stopped.

The watcher is forked before anything is loaded, and lives as long as the engine does. Nothing
inside a container kills its process 1: there the first process watches, and the second is the
engine.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

EXIT_STUCK = 5
"""The engine ended itself, since a worker was stuck."""
_TICK_S = 0.5
_LAST_WORDS_S = 0.5  # for the lines of code that hang


class Heart:
    """The engine's end. Without a watcher it beats for nobody."""

    def __init__(self, pipe: int | None = None) -> None:
        self._pipe = pipe

    def beat(self, limit_s: float, about: str) -> None:
        """The engine lives and wants to be killed after a silence of `limit_s`, 0 for never.

        `about` is what it works on, for the log line that the watcher would write.
        """
        if self._pipe is None:
            return
        try:
            os.write(self._pipe, f"{limit_s:g} {about[:1000]}\n".encode())
        except BlockingIOError:
            return  # the watcher itself stands still, with a pipe full of beats
        except OSError:  # it is gone
            self._pipe = None


def guarded(work: Callable[[Heart], int]) -> int:
    """Runs `work`, the engine, beside a process that watches it; its exit code.

    In the watcher this never returns.
    """
    if not hasattr(os, "fork"):
        return work(Heart())
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    first = os.getpid() == 1
    engine = os.getpid()
    forked = os.fork()
    if (forked == 0) != first:  # the watcher
        os.close(mouth)
        os._exit(_watch_child(forked, ear) if first else _watch_parent(engine, ear))
    os.close(ear)
    _explain_on_request()
    return work(Heart(mouth))


def _explain_on_request() -> None:
    """On SIGUSR1 the lines of code that all threads are at go to stderr, without Python's lock."""
    try:
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    except (AttributeError, OSError, RuntimeError, ValueError):  # no such thing here, or no stderr
        pass


def _watch_parent(engine: int, ear: int) -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the engine; it is over when that is
    if _silent(engine, ear):
        _kill(engine)
    return 0


def _watch_child(engine: int, ear: int) -> int:
    """As process 1: passes signals on, and ends as the engine ends."""

    def pass_on(number: int, frame: object) -> None:
        os.kill(engine, number)

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, pass_on)
    hung = _silent(engine, ear)
    if hung:
        _kill(engine)
    while True:
        pid, status = os.wait()  # process 1 is given the children of others too
        if pid == engine:
            code = os.waitstatus_to_exitcode(status)
            return EXIT_STUCK if hung else code if code >= 0 else 128 - code


def _silent(engine: int, ear: int) -> bool:
    """True when the engine has been silent for too long, False when it is gone."""
    limit, about, silent = 0.0, b"", 0.0
    last = time.monotonic()
    while True:
        heard, _, _ = select.select([ear], [], [], _TICK_S)
        now = time.monotonic()
        passed, last = now - last, now
        if heard:
            beats = os.read(ear, 65536)
            if not beats:
                return False
            *_, said = beats.splitlines()
            number, _, about = said.partition(b" ")
            limit, silent = float(number), 0.0
            continue
        if limit and not _stopped(engine):
            silent += min(passed, 2 * _TICK_S)  # more is a time in which this process did not run
        if limit and silent > limit:
            _log(
                f"the engine has not moved for {silent:.0f} s and is killed; at work were: "
                + (about.decode(errors="replace") or "nothing")
            )
            return True


def _stopped(engine: int) -> bool:
    """Whether a signal or a debugger holds it."""
    try:
        stat = Path(f"/proc/{engine}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in "Tt"


def _kill(engine: int) -> None:
    try:
        if hasattr(faulthandler, "register"):
            os.kill(engine, signal.SIGUSR1)
            time.sleep(_LAST_WORDS_S)
        os.kill(engine, signal.SIGKILL)
    except ProcessLookupError:
        return


def _log(message: str) -> None:
    """A line like those of `logs`, which has not been set up in this process."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    line = {"time": now, "severity": "CRITICAL", "message": message, "logger": __name__}
    print(json.dumps(line), file=sys.stderr, flush=True)
