"""A lock names its holder, is waited for, and is free once that has ended, however it ends."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compreface_cli import locks
from compreface_cli.errors import ConflictError
from tests.cli.names import assert_named
from tests.shared import ROOT

_HOLD = """
import sys, time
from pathlib import Path
from compreface_cli.locks import hold
with hold(Path(sys.argv[1]), "the thing", command="cf up demo"):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def another(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_holder_is_named_to_whoever_asks_and_whoever_wants_it(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with another(path) as process:
        seen = locks.holder(path)
        assert seen is not None
        assert (seen.pid, seen.command) == (process.pid, "cf up demo")
        with pytest.raises(ConflictError) as refused, locks.hold(path, "the thing"):
            raise AssertionError("two held one lock")
    assert_named(refused.value.message, "the thing", seen)
    assert refused.value.details["holder"]["pid"] == process.pid


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with another(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert path.exists(), "a killed process removes no file"
        assert locks.holder(path) is None
        with locks.hold(path, "the thing"):
            pass
    assert not path.exists()


def test_a_holder_is_waited_for_and_named_once(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    notes: list[str] = []
    with another(path) as process:
        threading.Timer(1.0, process.kill).start()
        with locks.hold(path, "the thing", wait_s=60, note=notes.append):
            pass
    assert [f"(pid {process.pid}," in note for note in notes] == [True]


def test_reading_the_holder_blocks_no_other_process(tmp_path: Path) -> None:
    """It shares the lock for an instant, in which nobody else can have it alone."""
    path = tmp_path / "x.lock"
    look = os.open(path, os.O_RDONLY | os.O_CREAT)
    fcntl.flock(look, fcntl.LOCK_SH)
    threading.Timer(0.03, os.close, [look]).start()
    with locks.hold(path, "the thing"):
        assert locks.holder(path) is not None


def test_a_file_that_its_last_holder_removes_meanwhile_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes between the opening of the file and the locking."""
    path = tmp_path / "x.lock"
    flock = fcntl.flock
    removed: list[Path] = []

    def late(handle: int, operation: int) -> None:
        if not removed:
            removed.append(path)
            path.unlink()
        flock(handle, operation)

    monkeypatch.setattr("compreface_cli.locks.fcntl.flock", late)
    with locks.hold(path, "the thing"):
        assert removed
        assert locks.holder(path) is not None
