"""`cf up --launcher process` with the real engine: what a user sees, and what is left."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from tests.cli.local_cf import ONE_INSTANCE, LocalCf, eventually, free_port, listening
from tests.cli.names import assert_named
from tests.shared import needs_shared, shared

pytestmark = pytest.mark.slow


def test_up_answers_for_a_known_face_and_a_second_up_finds_it_running(local_cf: LocalCf) -> None:
    port = free_port()
    first = local_cf.up("--port", str(port))
    assert first["change"] == "started"
    assert first["engine_url"] == f"http://127.0.0.1:{port}"
    assert first["proof"]["cosine"] >= 0.999
    assert [one["state"] for one in first["services"]] == ["running"]

    second = local_cf.up("--port", str(port))
    assert second["change"] == "already running"
    assert second["services"][0]["pid"] == first["services"][0]["pid"]

    status = local_cf.status()
    assert (status["state"], status["launcher"]) == ("running", "process")
    assert any("ready" in line for line in local_cf.json("logs", "--tail", "100")["lines"])

    stopped = local_cf.json("down")
    assert stopped == {
        "schema_version": 1,
        "instance": "embedded",
        "launcher": "process",
        "was_running": True,
        "kept": {},
        "change": "stopped",
        "removed": [],
    }
    assert local_cf.processes() == []
    assert local_cf.files() == []


def test_port_auto_takes_a_free_port_and_keeps_it(local_cf: LocalCf) -> None:
    first = local_cf.up("--port", "auto")
    second = local_cf.up("--port", "auto")
    assert second["change"] == "already running"
    assert second["engine_url"] == first["engine_url"]


def test_up_without_a_port_keeps_the_one_the_instance_has(local_cf: LocalCf) -> None:
    first = local_cf.up("--port", str(free_port()))
    again = local_cf.up()
    assert (again["change"], again["engine_url"]) == ("already running", first["engine_url"])
    assert local_cf.json("down")["instance"] == "embedded"


def test_up_names_the_instance_that_holds_the_port(local_cf: LocalCf) -> None:
    port = local_cf.up("--port", "auto")["engine_url"].rpartition(":")[2]
    error = local_cf.up("--port", port, "--instance", "two", exit_code=4)["error"]
    assert_named(error["message"], port, "embedded", "`cf down embedded`")


def test_of_two_at_once_on_one_port_the_later_is_refused(local_cf: LocalCf) -> None:
    port = str(free_port())
    flags = ("up", "embedded", "--launcher", "process", "--port", port, "--json", "--instance")
    both = {name: local_cf.start(*flags, name) for name in ("a", "b")}
    said = {name: json.loads(one.communicate(timeout=120)[0]) for name, one in both.items()}
    codes = {name: one.returncode for name, one in both.items()}
    assert sorted(codes.values()) == [0, 4], said
    winner, loser = sorted(codes, key=lambda name: codes[name])
    assert port in said[loser]["error"]["message"]
    assert local_cf.status(winner)["state"] == "running"
    local_cf.json("status", loser, exit_code=3)


def test_what_a_process_cannot_do_is_reported(local_cf: LocalCf) -> None:
    error = local_cf.up("--services", "full", exit_code=2)["error"]
    assert_named(error["message"], "--services full")
    flags = ("up", "embedded", "--launcher", "process", "--dry-run", "--port", str(free_port()))
    assert_named(local_cf.run(*flags, "--build").stderr, "warning: --build")
    refused = local_cf.run(*flags, "--core-port", "3999")
    assert refused.returncode == 2
    assert_named(refused.stderr, "--core-port")
    said = local_cf.run(*flags, CF_CORE_PORT="3999").stderr
    assert_named(said, "warning: core_port (environment CF_CORE_PORT)")
    with listening() as port:  # with no other port it is the engine's
        process = ("up", "embedded", "--launcher", "process", "--dry-run")
        held = local_cf.run(*process, "--core-port", str(port))
    assert held.returncode == 4
    assert str(port) in held.stderr


def test_up_refuses_a_port_held_by_another_process(local_cf: LocalCf) -> None:
    with listening() as port:
        error = local_cf.up("--port", str(port), exit_code=4)["error"]
    assert str(port) in error["message"]
    assert str(os.getpid()) in error["message"]
    assert local_cf.files() == []


def test_a_dry_run_says_what_would_happen_and_changes_nothing(local_cf: LocalCf) -> None:
    before = local_cf.home()
    told = local_cf.up("--port", str(free_port()), "--dry-run")
    assert [one["verb"] for one in told["operations"]] == ["start", "check"]
    assert all(one["cause"] for one in told["operations"])
    with listening() as port:
        local_cf.up("--port", str(port), "--dry-run", exit_code=4)
    assert local_cf.home() == before


def test_up_refuses_a_build_that_cannot_run_before_anything_is_made(local_cf: LocalCf) -> None:
    done = local_cf.run("up", "arcface-r100", "--launcher", "process", "--port", "auto")
    assert done.returncode == 9
    assert "arcface" in done.stderr
    assert local_cf.files() == []


def test_up_names_a_model_that_cannot_be_had_before_anything_is_made(local_cf: LocalCf) -> None:
    before = local_cf.home()
    flags = ("--calculator", "facenet.Calculator@20180408-102900", "--launcher", "process")
    done = local_cf.run("up", "embedded", *flags, "--port", "auto", "--dry-run")
    assert done.returncode == 9
    assert "20180408-102900" in done.stderr
    assert "CF_MODELS_MIRROR" in done.stderr
    assert local_cf.home() == before


@pytest.mark.parametrize("limit", ["0", "128", "500"])
def test_a_limit_that_shrinks_the_portrait_does_not_fail_the_check(
    local_cf: LocalCf, limit: str
) -> None:
    proof = local_cf.up("--port", "auto", CF_MAX_DETECT_SIZE=limit)["proof"]
    assert proof["cosine"] > 0.98


@needs_shared
def test_facenet_is_prepared_from_a_mirror_and_answers(local_cf: LocalCf) -> None:
    flags = ("up", "facenet", "--launcher", "process", "--port", "auto")
    # The build leaves the runtime to a measurement; the environment at hand has one only.
    local_cf.env |= {"CF_RUNTIME": "onnxruntime", "CF_PLUGINS": "facenet.LandmarksDetector"}
    up = local_cf.json(*flags, CF_MODELS_MIRROR=str(shared("models")))
    assert up["calculator"] == "facenet.Calculator"
    assert up["proof"]["cosine"] >= 0.999
    assert local_cf.json(*flags)["change"] == "already running"
    os.kill(up["services"][0]["pid"], signal.SIGKILL)
    shutil.rmtree(local_cf.data / "models")  # what runs keeps its own names for the files
    assert eventually(lambda: local_cf.status("facenet")["state"] == "running")


def test_a_killed_engine_is_started_again(local_cf: LocalCf) -> None:
    first = local_cf.up("--port", "auto")["services"][0]
    os.kill(first["pid"], signal.SIGKILL)
    assert eventually(lambda: local_cf.status()["state"] == "running")
    again = local_cf.status()["services"][0]
    assert (again["restarts"], again["pid"] != first["pid"]) == (1, True)
    assert "SIGKILL" in again["detail"]


def test_a_killed_supervisor_is_reported_and_repaired_by_up(local_cf: LocalCf) -> None:
    local_cf.up("--port", "auto")
    (state_file,) = local_cf.state.glob("instances/embedded/engine-*/state.json")
    supervisor = json.loads(state_file.read_text())["supervisor"]["pid"]
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(lambda: local_cf.status()["state"] == "unhealthy")
    assert local_cf.run("status").returncode == 8
    assert local_cf.up("--port", "auto")["change"] == "started"
    assert local_cf.status()["state"] == "running"
    local_cf.json("down")
    assert (local_cf.processes(), local_cf.files()) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_nothing(local_cf: LocalCf, number: signal.Signals) -> None:
    process = _up_until_the_supervisor_runs(local_cf)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert (local_cf.processes(), local_cf.files()) == ([], [])
    by = "" if number == signal.SIGINT else " by SIGTERM"
    said = err.splitlines()
    assert said[-1].startswith(f"interrupted{by}; ")


def test_a_wait_shows_its_seconds_at_a_terminal(local_cf: LocalCf) -> None:
    local_cf.up("--port", "auto")
    os.kill(local_cf.status()["services"][0]["pid"], signal.SIGSTOP)  # it hears no SIGTERM
    terminal, end = pty.openpty()
    down = subprocess.Popen(
        [sys.executable, "-m", "compreface_cli.cli", "down", "--timeout", "1"],
        env={**local_cf.env, "TERM": "xterm"},
        stdin=end,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    seen = b""
    with suppress(OSError):  # how a terminal ends
        while part := os.read(terminal, 4096):
            seen += part
    os.close(terminal)
    assert down.wait() == 0
    assert re.search(rb"Stopping 'embedded'\S* .*0:00:01", seen), seen


def test_leftovers_of_a_killed_up_are_reported_and_removed_by_the_next_up(
    local_cf: LocalCf,
) -> None:
    process = _up_until_the_supervisor_runs(local_cf)
    process.kill()
    process.communicate()
    assert local_cf.status()["state"] == "interrupted"
    assert local_cf.up("--port", "auto")["change"] == "started"
    assert len(list(local_cf.state.glob("instances/embedded/engine-*"))) == 1
    assert len(local_cf.processes()) == ONE_INSTANCE


def test_down_removes_what_a_killed_up_left(local_cf: LocalCf) -> None:
    process = _up_until_the_supervisor_runs(local_cf)
    process.kill()
    process.communicate()
    local_cf.json("down")
    assert (local_cf.processes(), local_cf.files()) == ([], [])


def test_two_ups_at_once_name_each_other(local_cf: LocalCf) -> None:
    first = _up_until_the_supervisor_runs(local_cf)
    error = local_cf.up(exit_code=4)["error"]
    assert f"pid {first.pid}" in error["message"]
    out, err = first.communicate(timeout=60)
    assert first.returncode == 0, out + err


def test_down_lists_the_instances_when_several_run(local_cf: LocalCf) -> None:
    local_cf.up("--port", "auto", "--instance", "one")
    local_cf.up("--port", "auto", "--instance", "two")
    error = local_cf.json("down", exit_code=2)["error"]
    assert error["details"]["instances"] == ["one", "two"]
    local_cf.json("down", "two")
    assert local_cf.json("down")["instance"] == "one"


def test_restart_gives_another_process_that_answers(local_cf: LocalCf) -> None:
    first = local_cf.up("--port", "auto")
    again = local_cf.json("restart")
    assert again["services"][0]["pid"] != first["services"][0]["pid"]
    assert again["engine_url"] == first["engine_url"]
    assert again["proof"]["cosine"] >= 0.999


def test_a_damaged_record_is_reported_and_blocks_no_other(local_cf: LocalCf) -> None:
    broken = local_cf.state / "instances" / "broken" / "instance.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    local_cf.up("--port", "auto")
    done = local_cf.run("status")
    assert done.returncode == 0
    assert str(broken) in done.stderr
    assert "embedded" in done.stdout


def _up_until_the_supervisor_runs(cf: LocalCf) -> subprocess.Popen[str]:
    process = cf.start("up", "embedded", "--launcher", "process", "--port", "auto")
    states = cf.state / "instances" / "embedded"
    assert eventually(lambda: bool(list(states.glob("engine-*/state.json")))), process.poll()
    return process
