"""Temporary folders: gone with their block, and swept by the next run when their cf was killed."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compreface_cli import leftovers
from tests.shared import ROOT

_HOLD = """
import sys
from pathlib import Path
from compreface_cli import leftovers
with leftovers.folder("cf-test-", Path(sys.argv[1])) as work:
    (work / "model.onnx").write_bytes(b"large")
    print(work, flush=True)
    sys.stdin.read()
"""


def holder(place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_a_folder_is_empty_private_and_gone_with_its_block(tmp_path: Path) -> None:
    with leftovers.folder("cf-test-", tmp_path) as work:
        assert list(work.iterdir()) == []
        assert work.parent.stat().st_mode & 0o777 == 0o700
        (work / "file").write_text("x")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_takes_it_away_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), leftovers.folder("cf-test-", tmp_path):
        raise ValueError("x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept_and_what_lives_stays(tmp_path: Path) -> None:
    with holder(tmp_path) as dead, holder(tmp_path) as alive:
        assert dead.stdout is not None
        assert alive.stdout is not None
        left, used = Path(dead.stdout.readline().strip()), Path(alive.stdout.readline().strip())
        dead.send_signal(signal.SIGKILL)
        dead.wait(30)
        assert (left / "model.onnx").is_file()
        with leftovers.folder("cf-test-", tmp_path):
            assert not left.parent.exists()
            assert (used / "model.onnx").is_file()
        alive.communicate()
    assert list(tmp_path.iterdir()) == []


def test_only_what_cf_made_is_swept(tmp_path: Path) -> None:
    (tmp_path / "cf-test-mine").mkdir()
    (tmp_path / "cf-test-mine" / "work").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".cf-lock").touch()
    (tmp_path / "cf-test-link").symlink_to(elsewhere)
    (tmp_path / "cf-other-x").mkdir()
    (tmp_path / "cf-other-x" / ".cf-lock").touch()
    assert leftovers.sweep("cf-test-", tmp_path) == []
    assert (tmp_path / "cf-test-mine" / "work").read_text() == "mine"
    assert (elsewhere / ".cf-lock").exists()
    assert (tmp_path / "cf-other-x").exists()
    assert leftovers.sweep("cf-other-", tmp_path) == [tmp_path / "cf-other-x"]


def test_a_folder_swept_between_its_making_and_its_lock_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    flock = fcntl.flock

    def late(handle: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        made.extend(leftovers.sweep("cf-test-", tmp_path))
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with leftovers.folder("cf-test-", tmp_path) as work:
        assert made
        assert work.is_dir()
        assert work.parent not in made
    assert list(tmp_path.iterdir()) == []
