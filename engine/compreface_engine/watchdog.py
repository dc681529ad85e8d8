"""The watcher: a second process that kills the engine when its event loop no longer runs.

C code that hangs while it holds Python's lock stops every thread of Python, the event loop's too.
The engine sends heartbeats over a pipe, and the watcher kills it after too long a silence. Time in
which both are suspended (by the machine, or `docker pause`) does not count, nor does time in which
a signal has stopped the engine. `faulthandler.dump_traceback_later` of the standard library would
need no second process, but its clock runs on while the engine is stopped.

The watcher is forked before anything is loaded and lives as long as the engine. Process 1 of a
container cannot be killed from inside; there the first process becomes the watcher, and the forked
one the engine.
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
"""The exit code of an engine that ended itself because a worker was stuck."""
_TICK_S = 0.5
_TRACEBACK_S = 0.5  # for printing the lines of code that hang


class Heartbeat:
    """The engine's end of the pipe; without a pipe `beat` does nothing."""

    def __init__(self, pipe: int | None = None) -> None:
        self._pipe = pipe

    def beat(self, limit_s: float, running: str) -> None:
        """Tells the watcher that the engine runs, and after how many silent seconds to kill it.

        A `limit_s` of 0 means never. `running` describes what is computed, for the watcher's log.
        """
        if self._pipe is None:
            return
        try:
            os.write(self._pipe, f"{limit_s:g} {running[:1000]}\n".encode())
        except BlockingIOError:
            return  # the watcher is suspended and the pipe is full
        except OSError:  # the watcher is gone
            self._pipe = None


def run_watched(engine: Callable[[Heartbeat], int]) -> int:
    """Runs `engine` beside a process that watches it and returns its exit code.

    It does not return in the watcher. Without `fork` (Windows) the engine runs unwatched.
    """
    if not hasattr(os, "fork"):
        return engine(Heartbeat())
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    is_process_1 = os.getpid() == 1
    parent = os.getpid()
    child = os.fork()
    if (child == 0) != is_process_1:  # the watcher
        os.close(writer)
        os._exit(_watch_child(child, reader) if is_process_1 else _watch_parent(parent, reader))
    os.close(reader)
    _dump_traceback_on_signal()
    return engine(Heartbeat(writer))


def _dump_traceback_on_signal() -> None:
    """Prints the tracebacks of all threads to stderr on SIGUSR1, without Python's lock."""
    try:
        faulthandler.register(signal.SIGUSR1, all_threads=True)
    except (AttributeError, OSError, RuntimeError, ValueError):  # unsupported here, or no stderr
        pass


def _watch_parent(engine: int, reader: int) -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the engine; the watcher ends with it
    if _became_silent(engine, reader):
        _kill(engine)
    return 0


def _watch_child(engine: int, reader: int) -> int:
    """Watches as process 1: forwards signals and returns the engine's exit code."""

    def forward(number: int, frame: object) -> None:
        os.kill(engine, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, forward)
    hung = _became_silent(engine, reader)
    if hung:
        _kill(engine)
    while True:
        pid, status = os.wait()  # process 1 inherits orphans of other processes too
        if pid == engine:
            code = os.waitstatus_to_exitcode(status)
            return EXIT_STUCK if hung else code if code >= 0 else 128 - code


def _became_silent(engine: int, reader: int) -> bool:
    """Waits until the engine has been silent for too long (True) or has ended (False)."""
    limit, running, silent = 0.0, b"", 0.0
    last = time.monotonic()
    while True:
        readable, _, _ = select.select([reader], [], [], _TICK_S)
        now = time.monotonic()
        passed, last = now - last, now
        if readable:
            beats = os.read(reader, 65536)
            if not beats:
                return False
            *_, latest = beats.splitlines()
            number, _, running = latest.partition(b" ")
            limit, silent = float(number), 0.0
            continue
        if limit and not _is_stopped(engine):
            silent += min(passed, 2 * _TICK_S)  # more than that, and the watcher was suspended
        if limit and silent > limit:
            _log(
                f"the event loop has not run for {silent:.0f} s, so the engine is killed; "
                f"running: {running.decode(errors='replace') or 'nothing'}"
            )
            return True


def _is_stopped(process: int) -> bool:
    """Whether a signal or a debugger has stopped the process."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in "Tt"


def _kill(engine: int) -> None:
    """Has the engine print its tracebacks, then kills it."""
    try:
        if hasattr(faulthandler, "register"):
            os.kill(engine, signal.SIGUSR1)
            time.sleep(_TRACEBACK_S)
        os.kill(engine, signal.SIGKILL)
    except ProcessLookupError:
        return


def _log(message: str) -> None:
    """Prints a line like those of `logs`, which is not set up in this process."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    line = {"time": now, "severity": "CRITICAL", "message": message, "logger": __name__}
    print(json.dumps(line), file=sys.stderr, flush=True)
