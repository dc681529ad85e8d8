"""What `cf status` and `cf down` say of an instance that is half gone, or whose record is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.config import paths
from compreface_cli.instance.records import Instances, Record
from compreface_cli.launchers.supervisor import start_time
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.fixture
def alive() -> Iterator[int]:
    """The pid of a process that lives."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


def instance(*, supervisor: int | None, child: int | None, phase: str) -> Path:
    """The record of an engine as a process with that state; its folder."""
    store = Instances(paths.instances_dir())
    folder = store.home("mine") / "engine-1234"
    deployment = {
        "launcher": "process",
        "instance": "mine",
        "engine": {"bind": "127.0.0.1", "port": 9},
        "ui": None,
        "data": {"folder": str(folder)},
    }
    store.save(
        Record(
            name="mine",
            build="embedded",
            calculator="embedded.Calculator@mobilefacenet192",
            services="core",
            phase="running",
            created="2026-01-01T00:00:00+00:00",
            deployment=deployment,
        )
    )
    folder.mkdir()
    gone = {"pid": 1, "started": "long ago"}
    seen: list[dict[str, Any]] = [
        {"pid": pid, "started": start_time(pid)} if pid else gone for pid in (supervisor, child)
    ]
    state = {"supervisor": seen[0], "child": seen[1], "phase": phase}
    rest = {"last_exit": None, "restarts": 0, "since": "2026-01-01T00:00:00+00:00"}
    (folder / "state.json").write_text(json.dumps({**state, **rest}))
    return folder


def damaged(cf: Cf, *arguments: str) -> str:
    """What `cf down` says once the record cannot be read."""
    (Instances(paths.instances_dir()).home("mine") / "instance.json").write_text("{")
    done = cf("down", *arguments)
    assert done.code == 3
    assert_named(done.err, "'mine'", Instances(paths.instances_dir()).home("mine"))
    return done.err


def test_a_service_without_more_to_say_has_no_colon(cf: Cf, alive: int) -> None:
    instance(supervisor=alive, child=None, phase="starting")
    done = cf("status", "mine", "--json")
    assert done.document["instances"][0]["detail"] == "core is starting"


@pytest.mark.parametrize("columns", ["40", "80"])
@pytest.mark.parametrize("terminal", [False, True])
def test_an_instance_is_one_line_whose_address_can_be_copied(
    cf: Cf, alive: int, monkeypatch: pytest.MonkeyPatch, columns: str, terminal: bool
) -> None:
    instance(supervisor=alive, child=None, phase="running")
    store = Instances(paths.instances_dir())
    record = store.load("mine")
    assert record is not None
    long = "an-instance-with-a-name-of-some-length"
    shutil.copytree(store.home("mine"), store.home(long))
    store.save(replace(record, name=long))
    monkeypatch.setenv("COLUMNS", columns)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    out = cf("status").out
    [line] = [one for one in out.splitlines() if one.split()[:2] == [long, "embedded"]]
    assert line.endswith("http://127.0.0.1:9")


def test_leftovers_of_an_interrupted_down_are_reported_with_the_next_commands(cf: Cf) -> None:
    folder = instance(supervisor=None, child=None, phase="stopped")
    done = cf("status")
    assert done.code == 8
    assert "mine: core is stopped" in done.out
    assert "cf restart mine" in done.out
    assert "cf down mine" in done.out
    shutil.rmtree(folder)
    done = cf("status")
    assert_named(done.out, "mine: core is missing")
    assert "cf restart" not in done.out  # there is nothing to start again
    assert "cf down mine" in done.out
    again = cf("restart", "mine")
    assert again.code == 3
    assert "cf up embedded" in again.err
    assert cf("down", "mine").code == 0
    assert cf("status", "--json").document["instances"] == []


@pytest.mark.parametrize("named", [("mine",), ()])
def test_down_names_the_process_of_an_instance_whose_record_is_damaged(
    cf: Cf, alive: int, named: tuple[str, ...]
) -> None:
    instance(supervisor=alive, child=os.getpid(), phase="running")
    told = damaged(cf, *named)
    assert f"kill {alive}" in told
    assert str(os.getpid()) not in told  # it ends with its supervisor
    assert "docker" not in told


def test_down_names_an_engine_without_its_supervisor(cf: Cf, alive: int) -> None:
    instance(supervisor=None, child=alive, phase="running")
    assert f"kill {alive}" in damaged(cf, "mine")


def test_down_names_the_docker_command_where_no_process_is_left(cf: Cf) -> None:
    folder = instance(supervisor=None, child=None, phase="running")
    for text in ("{", "[]", '{"supervisor": 1, "child": {"pid": "x"}}'):
        (folder / "state.json").write_text(text)
        told = damaged(cf, "mine")
        assert "docker compose --project-name cf-mine down" in told
        assert "kill" not in told


def cut_off(command: str, *, previous: dict[str, Any] | None, **fields: Any) -> None:
    """The record that a run of `cf` leaves which was cut off."""
    store = Instances(paths.instances_dir())
    record = store.load("mine")
    assert record is not None
    changed: dict[str, Any] = {"phase": "starting", "command": command, **fields}
    store.save(replace(record, previous_record=previous, **changed))


def test_an_interrupted_start_is_reported_with_the_next_commands(cf: Cf) -> None:
    instance(supervisor=None, child=None, phase="stopped")
    cut_off("cf up embedded", previous=None)
    done = cf("status")
    assert done.code == 8
    assert_named(done.out, "`cf up embedded`", "`cf up embedded --instance mine`", "`cf down mine`")
    done = cf("scan", "--instance", "mine", "a.jpg")
    assert done.code != 0
    done = cf("down", "mine")
    assert done.code == 0
    assert_named(done.err, "`cf up embedded`")
    assert_named(done.out, "'mine'")
    assert cf("status", "--json").document["instances"] == []


def test_a_start_that_was_cut_off_before_anything_was_deployed_can_be_stopped(cf: Cf) -> None:
    instance(supervisor=None, child=None, phase="stopped")
    cut_off("cf up embedded", previous=None, deployment={})
    assert cf("status").code == 8
    done = cf("logs", "mine")
    assert done.code == 3
    assert_named(done.err, "'mine'", "`cf up embedded --instance mine`", "`cf down mine`")
    assert cf("down", "mine").code == 0
    assert cf("status", "--json").document["instances"] == []


def test_an_interrupted_replacement_is_shown_as_the_engine_that_runs(cf: Cf, alive: int) -> None:
    folder = instance(supervisor=alive, child=alive, phase="running")
    store = Instances(paths.instances_dir())
    before = store.load("mine")
    assert before is not None
    other = {**before.deployment, "engine": {"bind": "127.0.0.1", "port": 10, "key": ""}}
    other["data"] = {"folder": str(folder.with_name("engine-5678"))}
    cut_off("cf up corp", previous=asdict(before), build="corp", deployment=other)
    (seen,) = cf("status", "--json").document["instances"]
    assert (seen["build"], seen["state"]) == ("embedded", "interrupted")
    assert seen["engine_url"] == "http://127.0.0.1:9"
    assert_named(seen["detail"], "`cf up corp`")


def test_an_interrupted_stop_is_completed_and_reported_by_restart(cf: Cf) -> None:
    instance(supervisor=None, child=None, phase="stopped")
    cut_off("cf down mine", previous=None, phase="stopping")
    done = cf("restart", "mine")
    assert done.code == 3
    assert_named(done.err, "`cf down mine`", "`cf up embedded --instance mine`")
    assert cf("status", "--json").document["instances"] == []


def test_a_run_that_ends_during_status_is_not_reported_as_interrupted(
    cf: Cf, alive: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record was read, then it ended well and let go of the lock."""
    instance(supervisor=alive, child=alive, phase="running")
    store = Instances(paths.instances_dir())
    done = store.load("mine")
    assert done is not None
    store.save(replace(done, phase="starting", command="cf up embedded"))
    holder = Instances.holder

    def ended(self: Instances, name: str) -> Any:
        found = holder(self, name)
        store.save(done)
        return found

    monkeypatch.setattr(Instances, "holder", ended)
    (one,) = json.loads(cf("status", "--json").out)["instances"]
    assert one["state"] == "unhealthy", "nothing answers there, and nothing was cut off"


def test_an_instance_that_is_gone_by_now_is_not_listed(
    cf: Cf, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance(supervisor=None, child=None, phase="running")
    store = Instances(paths.instances_dir())
    record = store.load("mine")
    assert record is not None
    store.save(replace(record, phase="starting", command="cf up embedded"))

    def removed(self: Instances, name: str) -> None:
        (store.home(name) / "instance.json").unlink()

    monkeypatch.setattr(Instances, "holder", removed)
    assert json.loads(cf("status", "--json").out)["instances"] == []
