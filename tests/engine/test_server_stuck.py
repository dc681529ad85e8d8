"""A stuck worker or event loop ends the engine in bounded time, and nothing else does."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.launchers import supervisor
from tests.contract.process import MULTIPART, Engine, photograph_form, wait_until
from tests.engine.costly_pictures import grain, saved
from tests.engine.hanging_engine import BRIEF, HANGS, HOLDS_THE_LOCK
from tests.shared import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, stops processes"),
]

BOUND_S = 1.0


def picture(height: int) -> bytes:
    return saved(grain(height, 40), "PNG")


def engine(**variables: str) -> Engine:
    settings = {"CF_STUCK_S": f"{BOUND_S:g}", "CF_MAX_CONCURRENCY": "2", "EXTRA_PLUGINS": ","}
    return Engine("-m", "tests.engine.hanging_engine", **{**settings, **variables})


def lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def ask(served: Engine, height: int, pool: ThreadPoolExecutor) -> Any:
    return pool.submit(served.find, picture(height))


def test_a_stuck_worker_is_named_and_ends_the_engine_after_the_other_computations() -> None:
    with engine() as served, ThreadPoolExecutor(3) as pool:
        assert served.request("GET", "/live").status == 200
        hung = ask(served, HANGS, pool)
        time.sleep(BOUND_S * 0.7)
        beside = ask(served, BRIEF, pool)  # still runs when the other counts as stuck
        messages: list[str] = []

        def dead() -> bool:
            reply = served.request("GET", "/live")
            if reply.status == 503:
                messages.append(reply.json()["message"])
                assert served.request("GET", "/healthcheck").status == 503
                assert served.find(picture(40)).status == 503
            return bool(messages)

        assert wait_until(dead)
        assert beside.result().status == 200
        assert served.process.wait(20) == 5
        assert isinstance(hung.exception(), OSError | http.client.HTTPException)
    (line,) = [line for line in lines(served.log) if line["severity"] == "CRITICAL"]
    for message in (messages[0], line["message"]):
        assert f"(PNG, {len(picture(HANGS))} bytes)" in message


def test_an_event_loop_that_hangs_in_c_is_killed_with_a_traceback() -> None:
    with engine() as served, ThreadPoolExecutor(1) as pool:
        asked = ask(served, HOLDS_THE_LOCK, pool)
        assert served.process.wait(20) == -signal.SIGKILL
        assert isinstance(asked.exception(), OSError | http.client.HTTPException)
    (line,) = [line for line in lines(served.log) if line["severity"] == "CRITICAL"]
    assert line["logger"] == "compreface_engine.watchdog"
    assert f"(PNG, {len(picture(HOLDS_THE_LOCK))} bytes)" in line["message"]
    assert "hanging_engine.py" in served.log, "what hung is shown"
    assert "in detect" in served.log


def test_a_start_that_takes_longer_than_stuck_s_is_not_killed() -> None:
    with engine(LOADS_FOR_S=str(BOUND_S * 3)) as served:
        assert served.find(picture(40)).status == 200
        assert served.stop() == 0


def test_a_stopped_engine_continues_and_is_not_killed() -> None:
    with engine() as served, ThreadPoolExecutor(1) as pool:
        began = ask(served, BRIEF, pool)
        time.sleep(0.2)
        served.process.send_signal(signal.SIGSTOP)
        time.sleep(BOUND_S * 4)
        served.process.send_signal(signal.SIGCONT)
        assert began.result().status == 200
        time.sleep(BOUND_S * 2)
        assert served.find(picture(40)).status == 200
        assert served.stop() == 0


def test_a_stopped_process_group_continues_and_is_not_killed() -> None:
    """Like `docker pause` and a suspended machine, which stop the watcher too."""
    with engine() as served:
        family = [served.process.pid, *children(served.process.pid)]
        assert len(family) == 2
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(BOUND_S * 4)
        for pid in reversed(family):  # the watcher first, so that it sees no heartbeat
            os.kill(pid, signal.SIGCONT)
        time.sleep(BOUND_S * 2)
        assert served.find(picture(40)).status == 200
        assert served.stop() == 0


def test_sigterm_ends_an_engine_with_a_stuck_worker() -> None:
    with engine(CF_STUCK_S="60", CF_DRAIN_S="0.5") as served, ThreadPoolExecutor(1) as pool:
        ask(served, HANGS, pool)
        assert wait_until(lambda: "compreface_running 1" in text(served))
        assert served.stop() == 0
        assert "1 computations are abandoned" in served.log


def text(served: Engine) -> str:
    return served.request("GET", "/metrics").body.decode()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    return supervisor.start_time(pid) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_watcher_ends_with_the_engine(number: signal.Signals) -> None:
    with engine() as served:
        (watcher,) = children(served.process.pid)
        os.kill(watcher, signal.SIGTERM)  # as systemd and a terminal send it to the whole group
        assert served.find(picture(40)).status == 200
        assert not gone(watcher)
        served.stop(number)
        assert wait_until(lambda: gone(watcher), 5)


def test_without_its_watcher_the_engine_continues() -> None:
    with engine() as served:
        (watcher,) = children(served.process.pid)
        os.kill(watcher, signal.SIGKILL)
        time.sleep(BOUND_S)
        assert served.find(picture(40)).status == 200
        assert served.stop() == 0


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Path]:
    spec = {
        "argv": [sys.executable, "-m", "tests.engine.hanging_engine"],
        "cwd": str(ROOT),
        "env": {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": f"{ROOT / 'engine'}{os.pathsep}{ROOT}",
            "CF_STUCK_S": f"{BOUND_S:g}",
            "CF_PORT": str(free_port()),
            "EXTRA_PLUGINS": ",",
        },
        "quick_s": 0.01,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    process = subprocess.Popen([sys.executable, "-I", supervisor.__file__, str(tmp_path)])
    yield tmp_path
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        number: int = holder.getsockname()[1]
        return number


@pytest.mark.parametrize(("height", "code"), [(HANGS, 5), (HOLDS_THE_LOCK, -9)])
def test_the_supervisor_restarts_a_stuck_engine(supervised: Path, height: int, code: int) -> None:
    port = int(json.loads((supervised / "spec.json").read_text())["env"]["CF_PORT"])

    def find(height: int, seconds: float = 5) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
        try:
            form = photograph_form(picture(height))
            connection.request("POST", "/find_faces", form, {"Content-Type": MULTIPART})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    assert wait_until(lambda: find(40) == 200)
    find(height, 0.2)
    assert wait_until(lambda: json.loads((supervised / "state.json").read_text())["restarts"] == 1)
    assert wait_until(lambda: find(40) == 200)
    state = json.loads((supervised / "state.json").read_text())
    assert state["last_exit"] == code
    log = (supervised / "engine.log").read_text()
    assert f"(PNG, {len(picture(height))} bytes)" in log
    assert "supervisor: the engine ended" in log
