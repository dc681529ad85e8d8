"""What a launcher is, what it hands back, and the clean-up of a run that did not reach its end.

A launcher executes and judges nothing: the flow decides what is wanted, whether the engine
answers rightly, and what is undone. A `Deployment` is all a launcher needs to start, stop or remove
the same thing again, also in a later run of `cf`; it is kept as JSON in the instance's record.
Child processes of `cf` run in a session of their own (`start_new_session`), so that a Ctrl-C
reaches `cf` alone and the clean-up can still use them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, Protocol, TypeAlias

from compreface_cli.errors import CfError, Interruption
from compreface_cli.plan import Plan

Report: TypeAlias = Callable[[str], None]  # one line about what happens, for stderr
Waiting: TypeAlias = Callable[[str], AbstractContextManager[object]]  # shows that a block lasts
State: TypeAlias = Literal[
    "running", "starting", "restarting", "paused", "stopped", "failed", "missing"
]
Kind: TypeAlias = Literal["compose", "process"]

# What an engine gets to finish its requests after SIGTERM, before it is killed.
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service answers: `bind` is what it listens on, `url` what this machine calls.

    `key` is what it asks for, if it asks for API keys; it never goes into a record.
    """

    bind: str
    port: int
    key: str = field(default="", repr=False)

    def as_dict(self) -> dict[str, Any]:
        return {"bind": self.bind, "port": self.port}

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.bind, self.bind)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ServiceState:
    """What one service does now, as its supervisor or Docker tells it."""

    name: str  # "core", "api", ...
    state: State
    detail: str = ""  # in words: "restarted 3 times, last exit code 137"
    healthy: bool | None = None  # None: it has no health check or nobody asked yet
    pid: int | None = None
    container: str | None = None
    restarts: int = 0
    since: str | None = None  # ISO 8601, UTC

    @property
    def words(self) -> str:
        """What it does, as a sentence: `core ended with exit code 137: killed`."""
        detail = self.detail
        if self.state == "failed" and detail.startswith("exit code"):
            return f"{self.name} ended with {detail}"
        if self.state == "failed" and detail.startswith("ended by"):
            return f"{self.name} {detail}"
        says = "has failed" if self.state == "failed" else f"is {self.state}"
        return f"{self.name} {says}" + (f": {detail}" if detail else "")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One prepared way of running an instance; `data` is the launcher's own, JSON-ready."""

    launcher: Kind
    instance: str
    engine: Endpoint
    ui: Endpoint | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "launcher": self.launcher,
            "instance": self.instance,
            "engine": self.engine.as_dict(),
            "ui": self.ui.as_dict() if self.ui else None,
            "data": dict(self.data),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Deployment:
        """The inverse of `as_dict`, the key aside; KeyError or TypeError on anything else."""
        ui = document["ui"]
        return cls(
            launcher=document["launcher"],
            instance=document["instance"],
            engine=Endpoint(**document["engine"]),
            ui=Endpoint(**ui) if ui else None,
            data=document["data"],
        )


@dataclass(frozen=True, slots=True)
class Material:
    """What the flow has laid ready before a launcher prepares a deployment."""

    engine: Endpoint  # settled ports: nothing is "auto" any more
    ui: Endpoint | None = None
    models_dir: Path | None = None  # folder of prepared models, None when the build needs none
    folder: Path | None = None  # compose: the written project
    image: str | None = None  # compose: the image's id
    python: Path | None = None  # process: the interpreter of the engine's environment


class Launcher(Protocol):
    """Executes; every method may be called again, and raises a CfError of errors.py on failure."""

    kind: Kind

    def prepare(self, plan: Plan, material: Material, undo: CleanUp, report: Report) -> Deployment:
        """Everything but the start. Only what this call creates is put on `undo`."""
        ...

    def trial(
        self, deployment: Deployment, report: Report
    ) -> AbstractContextManager[tuple[Endpoint, Callable[[], ServiceState]]]:
        """The engine alone on a spare loopback port, beside what runs; gone when the block ends.

        Yields its address and a look at its state (the flow stops waiting when it has failed).
        """
        ...

    def start(
        self,
        deployment: Deployment,
        report: Report,
        *,
        replacing: Deployment | None = None,
        limit_s: float | None = None,
    ) -> None:
        """Start all services without waiting for readiness, within `limit_s` if that is given.

        `replacing` is the running deployment of the same instance and launcher that gives way; its
        data and volumes stay. Starting the old one again, `replacing` the new, is the way back.
        """
        ...

    def tidy(self, deployment: Deployment, touched: Sequence[str] = ()) -> None:
        """Remove what a swap or a trial that was cut off could not: one engine stays.

        The services `touched` may be about to end, though they still answer: that is waited for.
        """
        ...

    def resume(self, deployment: Deployment, report: Report) -> None:
        """Let go on what somebody has paused."""
        ...

    def stop(self, deployment: Deployment, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop all services and remove what a stop removes: processes, containers, networks.

        Volumes and folders stay. Done already is fine.
        """
        ...

    def remove(self, deployment: Deployment) -> None:
        """Remove what `prepare` and `start` created for this deployment, volumes excepted."""
        ...

    def services(self, deployment: Deployment) -> tuple[ServiceState, ...]:
        """The state of each service, the engine ("core") first; `missing` when nothing is there."""
        ...

    def logs(
        self, deployment: Deployment, *, tail: int, follow: bool, service: str | None = None
    ) -> Iterator[str]:
        """Lines without line ends; `follow` goes on until the caller stops."""
        ...

    def keeps(self, deployment: Deployment) -> Mapping[str, str]:
        """What outlives `stop`, in words to where: {"volume": "...", "log": "..."}."""
        ...


class CleanUp:
    """What this run has created, undone in reverse order unless the run reaches `commit`.

    Push an undo *before* creating the thing, so that no signal falls between; an undo must
    therefore bear that the thing was never made. While undoing, further signals only get a line.
    """

    def __init__(
        self, report: Report = lambda line: None, waiting: Waiting = lambda label: nullcontext()
    ) -> None:
        self._steps: list[tuple[str, Callable[[], None]]] = []
        self._report = report
        self._waiting = waiting
        self.failures: list[str] = []
        self.left = ""  # what is as before once all is undone: "'demo' runs as before"

    def push(self, what: str, undo: Callable[[], None]) -> None:
        self._steps.append((what, undo))

    def commit(self) -> None:
        """The run succeeded: everything stays."""
        self._steps.clear()

    def undo(self) -> None:
        """Undo all steps, the last first; one that fails is reported and stops no other."""
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
            return
        label = "Undoing what this run has started"
        if isinstance(error, Interruption):
            self._report(f"Interrupted: {label[0].lower()}{label[1:]} ...")
            label = "Still undoing"
        with self._waiting(label):
            try:
                self.undo()
            except (Interruption, KeyboardInterrupt):  # a signal just before undo() heard them
                self.undo()
        if isinstance(error, Interruption):
            error.outcome = self._outcome()

    def _outcome(self) -> str:
        if self.failures:
            return f"not all of it could be undone: {'; '.join(self.failures)}"
        return ", ".join(filter(None, ("what this run had started is removed", self.left)))


_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interruptible() -> AbstractContextManager[None]:
    """Within the block the first Ctrl-C, SIGTERM or lost terminal raises Interruption.

    Those that the process was started to ignore (`nohup`, a shell's background) stay ignored.
    """
    heard = False

    def answer(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        if not heard:
            heard = True
            raise Interruption(signal.Signals(number).name)

    return _handlers(answer)


@contextmanager
def deferred() -> Iterator[None]:
    """A signal within the block is answered right after it: for a step that must not be cut."""
    heard: list[tuple[int, FrameType | None]] = []
    with _handlers(lambda number, frame: heard.append((number, frame))):
        yield
    for number, frame in heard[:1]:
        handler = signal.getsignal(number)
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.raise_signal(number)


def _signals_answered(answer: Callable[[], None]) -> AbstractContextManager[None]:
    # A Python handler, not a mask and not SIG_IGN: children must not inherit it.
    return _handlers(lambda number, frame: answer())


@contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears signals
        return
    # What `nohup` or a shell's background ignores for this process is not ours to hear.
    heard = [number for number in _STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
