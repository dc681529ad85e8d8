"""Folders that this user cannot have: told as what they are, with the way out."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compreface_cli import checks
from compreface_cli.checks.machine import Machine
from compreface_cli.config import paths
from compreface_cli.errors import ConfigurationError
from compreface_cli.facts.host import DiskFact, disk
from compreface_cli.instance.records import Instances, Record, now
from tests.cli.fake_facts import facts, host, plan
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named
from tests.shared import ROOT


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    run = in_folder(tmp_path, monkeypatch, capsys)
    (tmp_path / "file").write_text("no folder")
    for name in ("DATA", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "file" / name))
    return run


UP = ("up", "embedded", "--launcher", "process", "--port", "auto")


@pytest.mark.parametrize("arguments", [UP, (*UP, "--dry-run"), (*UP, "--json")])
def test_a_command_that_writes_names_the_folder_and_the_way_out(
    cf: Cf, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = cf(*arguments)
    assert done.code == 3
    assert str(tmp_path / "file") in done.out + done.err
    assert "XDG_STATE_HOME" in done.out + done.err
    assert "cf --debug" not in done.out + done.err  # it is no fault of cf


def test_the_doctor_has_a_row_for_a_folder_that_cannot_be_written(cf: Cf, tmp_path: Path) -> None:
    rows = [row for row in cf("doctor", "--json").document["rows"] if row["check"] == "disk"]
    refused = [row for row in rows if str(tmp_path / "file") in row["message"]]
    assert {row["level"] for row in refused} == {"fail"}
    assert {row["exit_code"] for row in refused} == {3}
    assert len(refused) == 3


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "Permission denied"), (errno.EROFS, "Read-only"), (errno.ENOTDIR, "Not a dir")],
)
def test_a_refusal_of_the_system_is_not_reported_as_a_bug(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/nowhere/state")
    for path in (paths.instances_dir() / "x.lock", Path("/nowhere")):
        told = paths.refused(OSError(number, os.strerror(number), str(path)))
        assert told is not None
        assert (told.code, str(path) in told.message) == (3, True)
        assert words in told.message


def test_a_refusal_elsewhere_stays_what_it_is() -> None:
    assert paths.refused(PermissionError(errno.EACCES, "denied", "/elsewhere/x")) is None
    inside = paths.state_dir() / "x"
    assert paths.refused(FileNotFoundError(errno.ENOENT, "gone", str(inside))) is None
    assert paths.refused(PermissionError("no file at all")) is None


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        ("XDG_STATE_HOME", paths.instances_dir),
        ("XDG_DATA_HOME", paths.models_dir),
        ("XDG_CACHE_HOME", paths.cache_dir),
        ("XDG_CONFIG_HOME", paths.config_dir),
    ],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_with_its_folder_and_variable(
    variable: str,
    folder: Callable[[], Path],
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("STATE", "DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    told = paths.refused(OSError(number, os.strerror(number), str(folder() / "x")))
    assert told is not None
    assert told.code == 1
    assert str(folder()) in told.message
    assert os.strerror(number) in told.message
    assert variable in str(told.hint)


def test_a_full_disk_elsewhere_is_not_reported_as_a_bug() -> None:
    full = errno.ENOSPC, os.strerror(errno.ENOSPC)
    for error in (OSError(*full), OSError(*full, "/elsewhere/x")):
        told = paths.refused(error)
        assert told is not None
        assert told.code == 1
        assert_named(told.message, "No space left on device", error.filename or "")
        assert told.hint


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may grow above so many bytes: what a full disk does, with the same kind of error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


def test_a_record_and_a_lock_that_find_no_room_leave_nothing_behind(tmp_path: Path) -> None:
    instances = Instances(tmp_path)
    record = Record("a", "embedded", "x", "y", "stopped", now())
    with small_files(10), pytest.raises(OSError, match="File too large") as full:
        instances.save(record)
    assert full.value.filename == str(tmp_path / "a" / "instance.json")
    with (
        small_files(0),
        pytest.raises(OSError, match="File too large") as full,
        instances.lock("a", "cf up"),
    ):
        pytest.fail("the lock is not held")
    assert full.value.filename.startswith(str(tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


@pytest.mark.parametrize(
    "arguments",
    [("list-builds",), ("show", "embedded"), ("validate", "mine.yaml"), (*UP, "--dry-run")],
)
def test_a_working_folder_that_is_gone_is_named_as_that(
    tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = subprocess.run(
        [sys.executable, "-m", "compreface_cli.cli", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert_named(done.stderr, "error: ", "\ncd ")
    assert "Traceback" not in done.stderr


def test_a_user_without_a_home_folder_gets_the_variables_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigurationError) as caught:
        paths.data_dir()
    assert "HOME" in str(caught.value.hint)


def test_a_folder_below_a_file_is_refused_and_one_to_be_made_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_named(disk(tmp_path / "file" / "a" / "b").refused, tmp_path / "file")
    assert disk(tmp_path / "a" / "b").refused == ""


def test_every_refused_folder_is_a_finding_even_on_one_disk() -> None:
    seen = host(
        disks={
            "/data": DiskFact("/data", "/", 10**10, 10**12),
            "/state": DiskFact("/state", "/", 10**10, 10**12, refused="/ is not writable"),
        }
    )
    for rows in (
        checks.preflight(plan(launcher="process", services="core", port=3000), facts(host=seen)),
        checks.doctor(Machine(facts(host=seen))),
    ):
        (row,) = [one for one in rows if one.check == "disk" and one.level == "fail"]
        assert row.code == 3
        assert_named(row.message, "/state", "/ is not writable")
        assert_named(row.hint, "XDG_STATE_HOME")
