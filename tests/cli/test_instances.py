"""Records are written whole, damaged ones harm nobody, and a lock names its holder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from compreface_cli.errors import ConfigurationError, ConflictError
from compreface_cli.instance.records import Instances, Record
from tests.shared import ROOT

HOLD = """
import sys, time
from pathlib import Path
from compreface_cli.instance.records import Instances
with Instances(Path(sys.argv[1])).lock("demo", "cf up demo"):
    print("held", flush=True)
    time.sleep(60)
"""


def record(name: str = "demo") -> Record:
    return Record(
        name=name,
        build="embedded",
        calculator="embedded.Calculator@mobilefacenet192",
        services="core",
        phase="running",
        created="2026-01-01T00:00:00+00:00",
        deployment={"launcher": "process"},
    )


def holder_of(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    process.communicate()


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = Instances(tmp_path)
    store.save(record())
    assert store.load("demo") == record()
    assert store.load("other") is None
    assert store.all() == ([record()], [])


def test_a_record_is_private_and_leaves_no_other_file(tmp_path: Path) -> None:
    store = Instances(tmp_path)
    store.save(record())
    assert [path.name for path in store.home("demo").iterdir()] == ["instance.json"]
    assert store.home("demo").stat().st_mode & 0o077 == 0
    assert (store.home("demo") / "instance.json").stat().st_mode & 0o077 == 0


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    store = Instances(tmp_path)
    store.save(record())
    cyclic: dict[str, object] = {}
    cyclic["self"] = cyclic
    with pytest.raises((ValueError, RecursionError)):
        store.save(replace(record(), plan=cyclic))
    assert store.load("demo") == record()
    assert [path.name for path in store.home("demo").iterdir()] == ["instance.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 99, "name": "demo"}',
        '{"schema": 1, "name": "demo"}',
        '{"schema": 1, "name": "else"}',
        '{"schema": 1, "name": "demo", "build": "x"}',
    ],
)
def test_a_damaged_record_is_named_and_the_others_are_read(tmp_path: Path, text: str) -> None:
    store = Instances(tmp_path)
    store.save(record("well"))
    path = store.home("demo") / "instance.json"
    path.parent.mkdir()
    path.write_text(text)
    records, damaged = store.all()
    assert [one.name for one in records] == ["well"]
    assert [(one.name, one.path) for one in damaged] == [("demo", path)]
    with pytest.raises(ConfigurationError, match="demo"):
        store.load("demo")


def test_a_record_that_is_not_utf8_is_damaged(tmp_path: Path) -> None:
    store = Instances(tmp_path)
    path = store.home("demo") / "instance.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe")
    assert [one.name for one in store.all()[1]] == ["demo"]
    with pytest.raises(ConfigurationError, match="demo"):
        store.load("demo")


def test_an_unknown_field_of_a_later_cf_is_ignored(tmp_path: Path) -> None:
    store = Instances(tmp_path)
    store.save(record())
    path = store.home("demo") / "instance.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": 1}))
    assert store.load("demo") == record()


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "-a", "a" * 41])
def test_a_name_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"'{name}'")) as caught:
        Instances(tmp_path).home(name)
    assert "up to 40 " in (caught.value.hint or "")  # as the setting has it
    assert Instances(tmp_path).home("a" * 40).name == "a" * 40


def test_a_lock_names_its_holder(tmp_path: Path) -> None:
    store = Instances(tmp_path)
    process = holder_of(tmp_path)
    try:
        with pytest.raises(ConflictError, match=rf"'cf up demo' \(pid {process.pid}, since"):
            store.lock("demo", "cf down demo").__enter__()
        seen = store.holder("demo")
        assert seen is not None
        assert (seen.pid, seen.command) == (process.pid, "cf up demo")
        with store.lock("other", "cf up other"):  # another instance is another lock
            pass
    finally:
        end(process, signal.SIGTERM)


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    store = Instances(tmp_path)
    end(holder_of(tmp_path), signal.SIGKILL)
    assert store.holder("demo") is None
    with store.lock("demo", "cf up demo"):
        seen = store.holder("demo")
        assert seen is not None
        assert seen.pid == os.getpid()


def test_a_lock_leaves_no_file(tmp_path: Path) -> None:
    with Instances(tmp_path).lock("demo", "cf up demo"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_removed_instance_is_forgotten(tmp_path: Path) -> None:
    store = Instances(tmp_path)
    store.save(record())
    store.remove("demo")
    store.remove("demo")
    assert store.load("demo") is None
    assert list(tmp_path.iterdir()) == []
