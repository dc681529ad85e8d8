"""The process launcher: what it says of a process, its logs, its trial, and whom it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.errors import CfError
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers import process
from compreface_cli.launchers.process import ProcessLauncher
from compreface_cli.launchers.supervisor import start_time
from tests.cli.local_cf import eventually
from tests.cli.names import assert_named

LAUNCHER = ProcessLauncher(lambda name: Path("/nowhere") / name)
SERVE = (
    "import http.server, os, sys\n"
    "print('up', os.environ['CF_HOST'], os.environ['MINE'], flush=True)\n"
    "server = http.server.HTTPServer(('127.0.0.1', int(os.environ['CF_PORT'])),"
    " http.server.SimpleHTTPRequestHandler)\n"
    "server.serve_forever()"
)


def deployment(folder: Path, script: str = SERVE) -> Deployment:
    folder.mkdir(exist_ok=True)
    return Deployment(
        "process",
        "demo",
        Endpoint("127.0.0.1", 0),
        data={
            "folder": str(folder),
            "argv": [sys.executable, "-c", script],
            "env": {"MINE": "yes"},
        },
    )


def nobody(line: str) -> None:
    raise AssertionError(line)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Deployment]:
    one = deployment(tmp_path / "engine-1")
    LAUNCHER.start(one, nobody)
    assert eventually(lambda: "up" in "".join(LAUNCHER.logs(one, tail=9, follow=False)))
    yield one
    LAUNCHER.stop(one)


def state(one: Deployment) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(one.data["folder"], "state.json").read_text())
    return document


def test_it_runs_until_it_is_stopped(running: Deployment) -> None:
    (core,) = LAUNCHER.services(running)
    assert (core.name, core.state, core.restarts) == ("core", "running", 0)
    assert core.pid is not None
    LAUNCHER.start(running, nobody)  # again: nothing happens
    assert LAUNCHER.services(running)[0].pid == core.pid
    LAUNCHER.stop(running)
    LAUNCHER.stop(running)
    assert start_time(core.pid) is None
    assert LAUNCHER.services(running)[0].state == "stopped"
    LAUNCHER.remove(running)
    assert LAUNCHER.services(running)[0].state == "missing"


def test_only_listed_variables_of_the_user_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CF_HOST", "6.6.6.6")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    script = (
        "import json, os, time\nprint(json.dumps(dict(os.environ)), flush=True); time.sleep(60)"
    )
    one = deployment(tmp_path / "engine-1", script)
    LAUNCHER.start(one, nobody)
    try:
        assert eventually(lambda: bool(list(LAUNCHER.logs(one, tail=1, follow=False))))
        seen = json.loads(next(LAUNCHER.logs(one, tail=1, follow=False)))
    finally:
        LAUNCHER.stop(one)
    assert seen["CF_HOST"] == "127.0.0.1"
    assert seen["CUDA_VISIBLE_DEVICES"] == "1"
    assert "PYTHONPATH" not in seen


def test_a_later_process_with_the_same_pid_is_not_the_engine(running: Deployment) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        stopped_state = state(running)
        LAUNCHER.stop(running)
        for part in ("supervisor", "child"):
            stopped_state[part]["pid"] = bystander.pid
        Path(running.data["folder"], "state.json").write_text(json.dumps(stopped_state))
        assert LAUNCHER.services(running)[0].state == "failed"
        LAUNCHER.stop(running)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_rebooted_machine_is_detected(running: Deployment) -> None:
    LAUNCHER.stop(running)
    seen = {**state(running), "phase": "running"}
    seen["supervisor"]["started"] = "another-boot:1"
    seen["child"] = {"pid": 1, "started": "another-boot:2"}
    Path(running.data["folder"], "state.json").write_text(json.dumps(seen))
    (core,) = LAUNCHER.services(running)
    assert core.state == "failed"
    assert core.detail == process._GONE_AFTER_REBOOT


def test_an_engine_without_its_supervisor_is_reported_and_can_be_stopped(tmp_path: Path) -> None:
    one = deployment(
        tmp_path / "engine-1",
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
    )
    LAUNCHER.start(one, nobody)
    assert eventually(lambda: "up" in "".join(LAUNCHER.logs(one, tail=9, follow=False)))
    seen = state(one)
    os.kill(seen["supervisor"]["pid"], signal.SIGKILL)
    assert eventually(lambda: start_time(seen["supervisor"]["pid"]) is None)
    (core,) = LAUNCHER.services(one)
    assert (core.state, core.pid) == ("running", seen["child"]["pid"])
    assert core.detail == process._SUPERVISOR_GONE
    LAUNCHER.stop(one, timeout_s=0.2)
    assert start_time(seen["child"]["pid"]) is None


@pytest.mark.parametrize(("restarts", "words"), [(1, "once"), (2, "2 times")])
def test_restarts_are_counted_in_words(running: Deployment, restarts: int, words: str) -> None:
    seen = {**state(running), "restarts": restarts, "last_exit": -9}
    Path(running.data["folder"], "state.json").write_text(json.dumps(seen))
    assert words in LAUNCHER.services(running)[0].detail


def test_the_exit_code_of_a_hung_computation_is_explained(running: Deployment) -> None:
    seen = {**state(running), "restarts": 1, "last_exit": 5}
    Path(running.data["folder"], "state.json").write_text(json.dumps(seen))
    detail = LAUNCHER.services(running)[0].detail
    assert_named(detail, "exit code 5: ")


def test_an_engine_after_repeated_crashes_has_failed(tmp_path: Path) -> None:
    one = deployment(tmp_path / "engine-1", "raise SystemExit(3)")
    seen = {
        "supervisor": {"pid": 1, "started": "x"},
        "child": None,
        "phase": "failed",
        "restarts": 4,
        "last_exit": 3,
        "since": "2026-01-01T00:00:00+00:00",
    }
    Path(one.data["folder"], "state.json").write_text(json.dumps(seen))
    (core,) = LAUNCHER.services(one)
    assert (core.state, core.restarts) == ("failed", 4)
    assert_named(core.detail, "exit code 3")


def test_a_trial_runs_on_a_free_port_and_ends_with_the_block(tmp_path: Path) -> None:
    one = deployment(tmp_path / "engine-1")
    with LAUNCHER.trial(one, nobody) as (endpoint, look):
        assert endpoint.port not in (0, one.engine.port)
        assert look().state == "running"
        pid = look().pid
        assert pid is not None
        assert eventually(lambda: "up" in "".join(LAUNCHER.logs(one, tail=9, follow=False)))
    assert start_time(pid) is None
    with LAUNCHER.trial(deployment(tmp_path / "engine-2", "raise SystemExit(3)"), nobody) as (
        _,
        look,
    ):
        assert eventually(lambda: look().state == "failed")
        assert "exit code 3" in look().detail


def test_logs_are_the_last_lines_across_a_rotation(tmp_path: Path) -> None:
    one = deployment(tmp_path / "engine-1")
    (tmp_path / "engine-1" / "engine.log.1").write_text("a\nb\n")
    (tmp_path / "engine-1" / "engine.log").write_text("c\n")
    assert list(LAUNCHER.logs(one, tail=2, follow=False)) == ["b", "c"]
    assert list(LAUNCHER.logs(one, tail=0, follow=False)) == []
    assert list(LAUNCHER.logs(one, tail=9, follow=False, service="core")) == ["a", "b", "c"]
    with pytest.raises(CfError, match="'api'"):
        next(LAUNCHER.logs(one, tail=1, follow=False, service="api"))


def test_following_continues_across_a_rotation_and_ends_with_the_engine(
    running: Deployment,
) -> None:
    log = Path(running.data["folder"], "engine.log")
    got: list[str] = []

    def read() -> None:
        got.extend(LAUNCHER.logs(running, tail=1, follow=True))

    reader = threading.Thread(target=read)
    reader.start()
    with log.open("a") as file:
        file.write("before\n")
    assert eventually(lambda: "before" in got)
    log.rename(log.with_name("engine.log.1"))
    log.write_text("after\n")
    assert eventually(lambda: "after" in got)
    LAUNCHER.stop(running)
    reader.join(30)
    assert not reader.is_alive()
    assert [line for line in got if line in ("before", "after")] == ["before", "after"]


@pytest.mark.timeout(60)
def test_following_gives_what_comes_while_the_last_lines_are_read(running: Deployment) -> None:
    log = Path(running.data["folder"], "engine.log")
    with log.open("a") as file:
        file.write("old\n")
    lines = LAUNCHER.logs(running, tail=1, follow=True)
    assert next(lines) == "old"
    with log.open("a") as file:
        file.write("meanwhile\n")
    assert next(lines) == "meanwhile"
    LAUNCHER.stop(running)
    list(lines)
