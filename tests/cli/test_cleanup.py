"""What a run has created is undone in reverse order, whatever ends the run; endpoints, records."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from compreface_cli.cleanup import CleanUp, deferred, interruptible
from compreface_cli.errors import CfError, Interruption
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.terminal.output import Output
from tests.cli.names import assert_named


def fail(undo: CleanUp, *steps: tuple[str, Callable[[], None]], commit_first: int = 0) -> None:
    """A run that makes these things and then ends with a KeyError."""
    with undo:
        for number, (what, step) in enumerate(steps):
            if number == commit_first:
                undo.commit()
            undo.push(what, step)
        raise KeyError


def interrupted(
    number: signal.Signals, undo: CleanUp, *steps: tuple[str, Callable[[], None]]
) -> None:
    """A run that makes these things and is then told to stop."""
    with interruptible(), undo:
        for what, step in steps:
            undo.push(what, step)
        os.kill(os.getpid(), number)
        time.sleep(10)


class Notes:
    """Steps that note that they ran."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def step(self, name: str) -> tuple[str, Callable[[], None]]:
        return name, lambda: self.done.append(name)


def test_undo_runs_in_reverse_order_and_only_on_failure() -> None:
    notes = Notes()
    with CleanUp() as undo:
        undo.push(*notes.step("a"))
    assert notes.done == []
    with pytest.raises(KeyError):
        fail(CleanUp(), notes.step("a"), notes.step("b"))
    assert notes.done == ["b", "a"]


def test_after_commit_everything_stays() -> None:
    notes = Notes()
    with pytest.raises(KeyError):
        fail(CleanUp(), notes.step("kept"), notes.step("later"), commit_first=1)
    assert notes.done == ["later"]


def test_a_failed_undo_is_reported_and_the_others_still_run() -> None:
    said: list[str] = []
    notes = Notes()
    undo = CleanUp(said.append)

    def fails() -> None:
        raise CfError("stuck")

    with pytest.raises(KeyError):
        fail(undo, notes.step("a"), ("b", fails))
    assert notes.done == ["a"]
    assert undo.failures == ["b: stuck"]
    assert said == ["could not undo: b: stuck"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_error_of_the_run(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    notes = Notes()
    with pytest.raises(Interruption, match=number.name):
        interrupted(number, CleanUp(), notes.step("a"))
    assert notes.done == ["a"]
    assert signal.getsignal(number) == before


def test_an_interruption_reports_the_outcome_of_the_run() -> None:
    notes = Notes()
    undo = CleanUp()
    undo.left = "'demo' runs as before"
    with pytest.raises(Interruption) as signalled:
        interrupted(signal.SIGINT, undo, notes.step("a"))
    assert_named(signalled.value.outcome, undo.left)

    def fails() -> None:
        raise CfError("stuck")

    with pytest.raises(Interruption) as signalled:
        interrupted(signal.SIGINT, CleanUp(), ("b", fails))
    assert_named(signalled.value.outcome, "b: stuck")
    with pytest.raises(Interruption) as signalled:
        interrupted(signal.SIGINT, CleanUp())
    assert signalled.value.outcome == ""

    undo = CleanUp()
    undo.commit("'demo' runs")
    with pytest.raises(Interruption) as signalled:
        interrupted(signal.SIGINT, undo)
    assert signalled.value.outcome == "'demo' runs"


def test_a_slow_undo_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    with pytest.raises(KeyError):
        fail(CleanUp(out.note, out.waiting), ("slow", lambda: time.sleep(1.2)))
    assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(KeyError):
        fail(CleanUp(out.note, out.waiting), ("quick", lambda: None))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_nohup_and_the_background_ignore_stays_ignored(number: signal.Signals) -> None:
    notes = Notes()
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with interruptible(), deferred():
            os.kill(os.getpid(), number)
            notes.step("went on")[1]()
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert notes.done == ["went on"]


def test_signals_during_the_clean_up_do_not_end_it() -> None:
    said: list[str] = []
    notes = Notes()

    def slow() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        notes.done.append("slow")

    with pytest.raises(Interruption, match="SIGTERM"):
        interrupted(signal.SIGTERM, CleanUp(said.append), notes.step("first"), ("slow", slow))
    assert notes.done == ["slow", "first"]
    undoing = "Interrupted: undoing what this run has started ..."
    assert said == [undoing, *["still cleaning up, please wait"] * 2]


def test_a_deferred_signal_comes_after_the_step() -> None:
    done: list[str] = []

    def run() -> None:
        with interruptible():
            with deferred():
                os.kill(os.getpid(), signal.SIGINT)
                done.append("whole")
            done.append("never")

    with pytest.raises(Interruption):
        run()
    assert done == ["whole"]


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("::1", "http://[::1]:1"),
        ("10.1.2.3", "http://10.1.2.3:1"),
    ],
)
def test_the_url_of_an_endpoint_is_reachable_from_this_machine(bind: str, url: str) -> None:
    assert Endpoint(bind, 1).url == url


@pytest.mark.parametrize("ui", [None, Endpoint("127.0.0.1", 8000)])
def test_a_deployment_survives_its_record(ui: Endpoint | None) -> None:
    one = Deployment("compose", "demo", Endpoint("127.0.0.1", 3000), ui, {"folder": "/x"})
    assert Deployment.from_dict(json.loads(json.dumps(one.as_dict()))) == one
