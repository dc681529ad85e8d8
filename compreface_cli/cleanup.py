"""Clean-up of a run that fails or is interrupted, and the signal handlers that interrupt one.

Child processes of `cf` run in their own session (`start_new_session`): Ctrl-C reaches only `cf`,
and the clean-up can still use them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType, TracebackType
from typing import TypeAlias

from compreface_cli.errors import CfError, Interruption

Report: TypeAlias = Callable[[str], None]  # prints a line on stderr
Waiting: TypeAlias = Callable[[str], AbstractContextManager[object]]  # shows a label during a block


class CleanUp:
    """What this run has created, undone in reverse order unless the run reaches `commit`.

    Register the undo before creating the resource, so a signal cannot leak it. Undo callbacks must
    be idempotent. While undoing, further signals only get a line.
    """

    def __init__(
        self, report: Report = lambda line: None, waiting: Waiting = lambda label: nullcontext()
    ) -> None:
        self._steps: list[tuple[str, Callable[[], None]]] = []
        self._report = report
        self._waiting = waiting
        self.failures: list[str] = []
        self.left = ""  # the state after an undo, for the report: "'demo' runs as before"

    def push(self, what: str, undo: Callable[[], None]) -> None:
        self._steps.append((what, undo))

    def commit(self, left: str = "") -> None:
        """The run succeeded: everything stays; `left` says so to who interrupts what is left."""
        self._steps.clear()
        self.left = left

    def undo(self) -> None:
        """Undo all steps, last first; a step that fails is reported, and the others still run."""
        with _signals_answered(lambda: self._report("still cleaning up, please wait")):
            while self._steps:
                what, step = self._steps.pop()
                try:
                    step()
                except (CfError, OSError) as error:
                    self.failures.append(f"{what}: {error}")
                    self._report(f"could not undo: {what}: {error}")

    def __enter__(self) -> CleanUp:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            return
        if not self._steps:
            if isinstance(error, Interruption):
                error.outcome = self.left
            return
        label = "Undoing what this run has started"
        if isinstance(error, Interruption):
            self._report(f"Interrupted: {label[0].lower()}{label[1:]} ...")
            label = "Still undoing"
        with self._waiting(label):
            try:
                self.undo()
            except (Interruption, KeyboardInterrupt):  # a signal just before undo() handled them
                self.undo()
        if isinstance(error, Interruption):
            error.outcome = self._outcome()

    def _outcome(self) -> str:
        if self.failures:
            return f"not all of it could be undone: {'; '.join(self.failures)}"
        return ", ".join(filter(None, ("what this run had started is removed", self.left)))


_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interruptible() -> AbstractContextManager[None]:
    """Raise Interruption on the first Ctrl-C, SIGTERM or SIGHUP within the block.

    Signals that the process was started to ignore (`nohup`, a background job) stay ignored.
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            raise Interruption(signal.Signals(number).name)

    return _handlers(interrupt)


@contextmanager
def deferred() -> Iterator[None]:
    """Handle a signal that arrives within the block at its end: for a step that must be atomic."""
    received: list[tuple[int, FrameType | None]] = []
    with _handlers(lambda number, frame: received.append((number, frame))):
        yield
    for number, frame in received[:1]:
        handler = signal.getsignal(number)
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.raise_signal(number)


def _signals_answered(answer: Callable[[], None]) -> AbstractContextManager[None]:
    # A Python handler: children would inherit a signal mask or SIG_IGN.
    return _handlers(lambda number, frame: answer())


@contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    # Keep what `nohup` or a background job ignores.
    handled = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)
