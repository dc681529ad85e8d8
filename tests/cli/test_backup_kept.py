"""Older backups are removed, other files never; a schedule that cron and systemd take."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from compreface_cli.data import backup_file, backup_run, kept, schedule
from compreface_cli.errors import CfError, ConflictError, UsageError
from compreface_cli.facts.places import Place
from compreface_cli.terminal.output import Output
from tests.cli.backups import made_backup

PLACE = Place("cf-demo_postgres-data", instance="demo")
OUT = Output(quiet=True)


def _put(folder: Path, day: int, content: bytes | None = None, suffix: str = "") -> Path:
    path = folder / f"demo-202611{day:02d}T030000Z.cfbackup{suffix}"
    path.write_bytes(made_backup() if content is None else content)
    return path


def test_only_older_backups_of_the_same_data_are_removed(tmp_path: Path) -> None:
    old = [_put(tmp_path, day) for day in (1, 2, 3)]
    newest = _put(tmp_path, 9)
    others = [
        _put(tmp_path, 4, made_backup(instance="other")),
        _put(tmp_path, 5, made_backup(volume="other")),
        _put(tmp_path, 6, b"damaged"),
        _put(tmp_path, 12),  # of a clock that was wrong
        tmp_path / "demo-before-the-move.cfbackup",
        tmp_path / "demo-20261101T030000Z.cfbackup.txt",
        tmp_path / "demo-two-20261101T030000Z.cfbackup",
    ]
    for path in others[4:]:
        path.write_bytes(made_backup())
    (tmp_path / "demo-20261101T030001Z.cfbackup").symlink_to(others[0])
    removed = kept.thin(newest, PLACE, 2, OUT)
    assert sorted(removed) == old[:2]
    assert old[2].exists()
    assert newest.exists()
    assert all(path.exists() for path in others)


def test_a_damaged_backup_does_not_count(tmp_path: Path) -> None:
    old = _put(tmp_path, 1)
    damaged = _put(tmp_path, 2, made_backup()[:-600])
    newest = _put(tmp_path, 3)
    assert kept.thin(newest, PLACE, 2, OUT) == []
    assert old.exists()
    assert damaged.exists()


def test_encrypted_ones_are_known_by_their_name(tmp_path: Path) -> None:
    old = _put(tmp_path, 1, b"age-encryption.org/v1\n-> X25519", ".age")
    false = _put(tmp_path, 2, b"something", ".age")
    newest = _put(tmp_path, 3, b"age-encryption.org/v1\n-> X25519", ".age")
    assert kept.thin(newest, PLACE, 1, OUT) == [old]
    assert false.exists()


def _cut_off(target: Path) -> None:
    with backup_file.written(target) as stream:
        stream.write(b"half")
        raise KeyError


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "faces.cfbackup"
    with pytest.raises(KeyError):
        _cut_off(target)
    assert list(tmp_path.iterdir()) == []
    with backup_file.written(target) as stream:
        stream.write(b"whole")
    assert target.read_bytes() == b"whole"
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConflictError), backup_file.written(target) as stream:
        stream.write(b"another")
    assert target.read_bytes() == b"whole"
    with backup_file.written(target, force=True) as stream:
        stream.write(b"another")
    assert target.read_bytes() == b"another"
    assert [path.name for path in tmp_path.iterdir()] == ["faces.cfbackup"]


def test_what_a_killed_run_left_is_removed_and_what_one_writes_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".demo.cfbackup.99999999.cf-part"
    left.touch()
    with backup_file.written(tmp_path / "one.cfbackup") as stream:
        assert not left.exists()
        with backup_file.written(tmp_path / "two.cfbackup"):
            pass
        stream.write(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.cfbackup", "two.cfbackup"]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CfError) as refused, backup_file.written(tmp_path / "faces"):
        raise OSError(28, "No space left on device")
    assert refused.value.details["full"]
    assert list(tmp_path.iterdir()) == []


def test_folders_are_private(tmp_path: Path) -> None:
    backup_file.private(tmp_path / "a" / "b")
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a/b")] == [
        0o700
    ] * 2


def test_cron_runs_the_line_as_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data 100%/it's")
    line = schedule.schedule("cron", "demo", ["--keep", "7"]).line
    fields, command = line.split(" env ", 1)
    assert len(fields.split()) == 5
    assert command.count("%") == command.count(r"\%") == 1
    words = shlex.split(command.replace(r"\%", "%"))
    assert "XDG_DATA_HOME=/data 100%/it's" in words
    assert words[-6:] == ["data", "backup", "demo", "--keep", "7", "--quiet"]


def test_systemd_takes_the_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", '/data 100%/"it$s"')
    made = schedule.schedule("systemd", "demo", ["-o", "/back ups/100%"])
    assert made.line == ""
    for path, text in made.files.items():
        (tmp_path / Path(path).name).write_text(text)
    service = (tmp_path / "cf-backup-demo.service").read_text()
    assert '"/back ups/100%%"' in service
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is absent")
    checked = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_keep_is_refused_for_a_file_and_leaves_nothing(tmp_path: Path) -> None:
    request = backup_run.Request("demo", str(tmp_path / "faces"), keep=2)
    with pytest.raises(UsageError):
        backup_run.run(request, OUT)
    assert list(tmp_path.iterdir()) == []
