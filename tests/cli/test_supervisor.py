"""The supervisor with real children: crashes, back-off, stops, logs, and who lives after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.child_processes import die_with
from compreface_cli.launchers import supervisor
from compreface_cli.launchers.supervisor import RotatingLog, start_time
from tests.cli.local_cf import eventually

FAST = {"back_off_s": 0.01, "longest_back_off_s": 0.05, "stop_timeout_s": 5.0}
SLEEP = "import time; print('up', flush=True); time.sleep(300)"


class Supervised:
    """A supervisor in a folder, with a Python script as its child."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, script: str, **spec: Any) -> int:
        document = {"argv": [sys.executable, "-c", script], "env": dict(os.environ), **FAST, **spec}
        (self.folder / "spec.json").write_text(json.dumps(document))
        return subprocess.run(
            [sys.executable, "-I", supervisor.__file__, "--detach", str(self.folder)],
            capture_output=True,
            timeout=60,
            check=False,
        ).returncode

    @property
    def state(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "state.json").read_text())
        return document

    @property
    def log(self) -> str:
        return (self.folder / "engine.log").read_text()

    def phase(self, wanted: str) -> bool:
        return eventually(lambda: self.state["phase"] == wanted, seconds=30)

    def child(self) -> int:
        assert eventually(lambda: self.state["child"] is not None, seconds=30)
        pid: int = self.state["child"]["pid"]
        return pid

    def stop(self) -> None:
        pid = self.state["supervisor"]["pid"]
        if start_time(pid) == self.state["supervisor"]["started"]:
            os.kill(pid, signal.SIGTERM)
        assert eventually(lambda: start_time(pid) is None, seconds=30)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    found = Supervised(tmp_path)
    yield found
    if (tmp_path / "state.json").exists():
        found.stop()


def test_it_returns_at_once_and_runs_in_the_background(supervised: Supervised) -> None:
    assert supervised.begin(SLEEP) == 0
    assert supervised.phase("running")
    assert eventually(lambda: supervised.log == "up\n")
    pid = supervised.state["supervisor"]["pid"]
    assert start_time(pid) == supervised.state["supervisor"]["started"]
    assert os.getsid(pid) not in (os.getsid(0), os.getsid(supervised.child()))


def test_a_second_supervisor_of_the_folder_ends(supervised: Supervised) -> None:
    supervised.begin(SLEEP)
    first = supervised.child()
    assert supervised.begin(SLEEP) == supervisor.ALREADY_SUPERVISED
    assert supervised.child() == first


def test_a_crash_is_followed_by_a_start(supervised: Supervised) -> None:
    supervised.begin(SLEEP)
    first = supervised.child()
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: supervised.state["restarts"] == 1 and supervised.phase("running"))
    assert supervised.child() != first
    assert supervised.state["last_exit"] == -9
    assert "by SIGKILL" in supervised.log


def test_it_ends_after_repeated_quick_crashes_and_logs_that(supervised: Supervised) -> None:
    supervised.begin("import sys; print('no'); sys.exit(7)", give_up_after=3)
    assert supervised.phase("failed")
    assert supervised.state["last_exit"] == 7
    assert supervised.log.count("no\n") == 3
    assert "3 times in a row" in supervised.log
    pid = supervised.state["supervisor"]["pid"]
    assert eventually(lambda: start_time(pid) is None)


@pytest.mark.slow
def test_crashes_of_a_child_that_ran_well_do_not_add_up(supervised: Supervised) -> None:
    script = "import time; time.sleep(0.2)"
    supervised.begin(script, give_up_after=2, quick_s=0.1)
    assert eventually(lambda: supervised.state["restarts"] >= 4)
    assert supervised.state["phase"] != "failed"


def test_a_missing_program_is_reported(supervised: Supervised) -> None:
    supervised.begin("", argv=["/nowhere/python"], give_up_after=2)
    assert supervised.phase("failed")
    assert "could not be started" in supervised.log


def test_a_stop_lets_the_child_finish(supervised: Supervised) -> None:
    script = (
        "import signal, sys, time\n"
        "def end(*_):\n    print('finished', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True)\n"
        "time.sleep(60)"
    )
    supervised.begin(script)
    assert eventually(lambda: "up" in supervised.log)
    supervised.stop()
    assert supervised.state["phase"] == "stopped"
    assert supervised.state["child"] is None
    assert "finished" in supervised.log


def test_a_child_that_does_not_stop_is_killed_with_what_it_started(supervised: Supervised) -> None:
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(helper.pid, flush=True); time.sleep(60)"
    )
    supervised.begin(script, stop_timeout_s=0.3)
    assert eventually(lambda: supervised.log.strip().isdigit())
    child, helper = supervised.child(), int(supervised.log)
    supervised.stop()
    assert eventually(lambda: start_time(child) is None and start_time(helper) is None)


def test_a_child_ends_with_a_killed_supervisor(supervised: Supervised) -> None:
    supervised.begin(SLEEP)
    child = supervised.child()
    assert eventually(lambda: "up" in supervised.log)
    os.kill(supervised.state["supervisor"]["pid"], signal.SIGKILL)
    assert eventually(lambda: start_time(child) is None, seconds=20)


def test_a_stop_during_the_wait_before_a_restart_is_obeyed(supervised: Supervised) -> None:
    supervised.begin("raise SystemExit(1)", back_off_s=60, longest_back_off_s=60)
    assert supervised.phase("restarting")
    supervised.stop()
    assert supervised.state["phase"] == "stopped"


def test_a_log_is_rotated_at_its_size_and_old_ones_are_removed(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "engine.log", max_bytes=100, kept=2)
    for number in range(40):
        log.write(f"{number:02d} {'x' * 20}\n".encode())
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "engine.log",
        "engine.log.1",
        "engine.log.2",
    ]
    parts = [(tmp_path / f"engine.log{end}").read_text() for end in (".2", ".1", "")]
    kept = [int(line[:2]) for part in parts for line in part.splitlines()]
    assert kept == list(range(kept[0], 40))
    assert all(len(part) <= 200 for part in parts)
    assert (tmp_path / "engine.log").stat().st_mode & 0o077 == 0


def test_a_line_without_an_end_cannot_fill_the_disk(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "engine.log", max_bytes=100, kept=1)
    for _ in range(100):
        log.write(b"x" * 10)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 400


def test_no_kept_log_means_one_file(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "engine.log", max_bytes=10, kept=0)
    log.write(b"0123456789\n")
    log.write(b"after\n")
    log.close()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"after\n"]


def test_the_start_time_of_a_process_differs_from_a_later_one() -> None:
    mine = start_time(os.getpid())
    assert mine is not None
    assert start_time(os.getpid()) == mine
    other = subprocess.Popen([sys.executable, "-c", "pass"])
    assert eventually(lambda: start_time(other.pid) is None)  # ended, not yet waited for
    other.wait()
    assert start_time(other.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_child_whose_parent_died_before_it_could_ask_ends_at_once() -> None:
    orphan = subprocess.Popen(["sleep", "60"], preexec_fn=die_with(2**30))
    try:
        assert orphan.wait(10) != 0
    finally:
        orphan.kill()
        orphan.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_signal_before_the_program_is_there_is_not_lost_in_a_handler_of_the_parents() -> None:
    """A parent that answers SIGTERM itself, as `cf` does while it works."""
    asked = die_with(os.getpid())

    def ask() -> None:
        asked()
        os.kill(os.getpid(), signal.SIGTERM)

    earlier = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        child = subprocess.Popen(["sleep", "60"], preexec_fn=ask)
    finally:
        signal.signal(signal.SIGTERM, earlier)
    try:
        assert child.wait(10) == -signal.SIGTERM
    finally:
        child.kill()
        child.wait()
