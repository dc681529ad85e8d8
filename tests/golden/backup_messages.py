"""What `cf data backup` and `cf data restore` refuse."""

from __future__ import annotations

import gzip
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from compreface_cli.data import (
    archive,
    backup,
    backup_file,
    backup_run,
    encryption,
    manifest,
    protection,
    restore,
    restore_plan,
)
from compreface_cli.data.backup_source import Backup
from compreface_cli.data.plain_tar import BrokenArchive
from compreface_cli.deploy import running
from compreface_cli.docker import cli, client, image, postgres_new
from compreface_cli.terminal.output import Output
from tests.cli.backups import made_backup

Case = Callable[[Path], object]
_QUIET = Output(quiet=True)
_REQUEST = backup_run.Request("demo", "-")
_GIB = 1 << 30


def _restored(raw: bytes | None, instance: str | None = None) -> Case:
    """The error of restoring a file with that content; None: a whole backup of a volume."""

    def case(folder: Path) -> object:
        path = folder / "faces.cfbackup"
        path.write_bytes(made_backup(instance="") if raw is None else raw)
        return restore.restore(path, instance, _QUIET)

    return case


def _with_manifest(**changes: Any) -> bytes:
    return made_backup(**changes)


def _damaged() -> bytes:
    raw = bytearray(made_backup())
    raw[len(raw) // 2] ^= 1
    return bytes(raw)


def _terminal(_: Path) -> object:
    with mock.patch.object(sys, "stdout", SimpleNamespace(isatty=lambda: True)):
        return backup_run.to_stdout(_REQUEST, _QUIET)


def _gone(_: Path) -> object:
    """A reader that has left, on a stdout that is no file."""

    @contextmanager
    def place(name: str) -> Iterator[None]:
        yield

    with (
        mock.patch.object(backup_run, "_place", place),
        mock.patch.object(backup, "stream", side_effect=BrokenPipeError(32, "Broken pipe")),
        mock.patch.object(sys, "stdout", SimpleNamespace(isatty=lambda: False, buffer=None)),
        mock.patch.object(backup_run, "_drop_stdout"),
    ):
        return backup_run.to_stdout(_REQUEST, _QUIET)


def _stdin(_: Path) -> object:
    with mock.patch.object(sys, "stdin", SimpleNamespace(isatty=lambda: True)):
        return restore.restore(None, "demo", _QUIET)


def _existing(volume: bool) -> Case:
    def case(_: Path) -> object:
        plan = SimpleNamespace(volume="cf-demo_postgres-data")
        record = None if volume else object()
        with (
            mock.patch.object(running, "record_of", return_value=record),
            mock.patch.object(client, "find", return_value={}),
        ):
            restore._refuse_existing("demo", plan)  # type: ignore[arg-type]
        return None

    return case


def _backup(**changes: Any) -> Backup:
    described = manifest.parse(archive.Reader(io.BytesIO(made_backup(**changes))).manifest)
    return Backup("faces.cfbackup", described, None, archive.Sums(0, "", 0, ""), mock.Mock())


def _newer(_: Path) -> object:
    plan = SimpleNamespace(stack={"postgres_image": "exadel/compreface-postgres-db:1.2.0"})
    with (
        mock.patch.object(image, "obtain"),
        mock.patch.object(postgres_new, "major_of", return_value=11),
    ):
        restore._refuse_newer(_backup(), plan, _QUIET)  # type: ignore[arg-type]
    return None


def _elsewhere(_: Path) -> object:
    from compreface_cli.config import settings

    with mock.patch.dict("os.environ", {"CF_POSTGRES_HOST": "db.example.com"}):
        chosen = settings.resolve({"services": "full", "launcher": "compose"})
        return restore_plan.plan_of(_backup(), chosen, _QUIET)


def _no_postgres(_: Path) -> object:
    with mock.patch.object(cli, "run", return_value="hello"):
        return postgres_new.major_of("hello-world")


def _no_room(_: Path) -> object:
    with mock.patch.object(shutil, "disk_usage", return_value=SimpleNamespace(free=_GIB)):
        backup_file.need_room(Path("/backups"), 2 * _GIB, "the backup of 'demo'")
    return None


def _full(_: Path) -> object:
    return backup_file.failed(OSError(28, "No space left on device"), Path("/backups/faces"))


def _denied(_: Path) -> object:
    return backup_file.failed(OSError(13, "Permission denied"), Path("/backups/faces"))


def _target(make: Callable[[Path], Path]) -> Case:
    return lambda folder: backup_file.refuse(make(folder), force=False)


def _there(folder: Path) -> Path:
    path = folder / "faces.cfbackup"
    path.touch()
    return path


def _with(folder: Path, text: str) -> Path:
    path = folder / "key.txt"
    path.write_text(text)
    return path


def _empty(use: Callable[[Any], object], *, several: bool = False) -> Case:
    """What it says about a file with a comment alone."""

    def case(folder: Path) -> object:
        path = _with(folder, "\n# nothing\n")
        return use([str(path)] if several else path)

    return case


def _no_terminal(_: Path) -> object:
    with mock.patch.object(sys, "stdin", SimpleNamespace(isatty=lambda: False)):
        return encryption.passphrase_from(None, twice=True)("the backup")


def _typed(*answers: str) -> object:
    terminal = SimpleNamespace(isatty=lambda: True)
    with (
        mock.patch.object(sys, "stdin", terminal),
        mock.patch.object(sys, "stderr", terminal),
        mock.patch("getpass.getpass", side_effect=answers),
    ):
        return encryption.passphrase_from(None, twice=True)("the backup")


def _wrong(_: Path) -> object:
    import pyrage

    with mock.patch.object(pyrage.passphrase, "decrypt", side_effect=pyrage.DecryptError):
        return encryption.opened(b"", "wrong", "faces.cfbackup.locked")


def _busy(_: Path) -> object:
    import pyrage

    refusal = pyrage.DecryptError("Excessive work\nIt would take 60 seconds")
    with (
        mock.patch.object(pyrage.passphrase, "decrypt", side_effect=refusal),
        mock.patch.object(encryption, "_PAUSE_S", 0.0),
    ):
        return encryption.opened(b"", "words", "faces.cfbackup.locked")


def _open(head: bytes) -> object:
    opened = protection.unlock(None, None, "faces.cfbackup.age")
    with opened(io.BytesIO(), head):
        return None


CASES: Final[Mapping[str, Case]] = {
    "backup: the file exists": _target(_there),
    "backup: a folder": _target(lambda folder: folder),
    "backup: in no folder": _target(lambda folder: folder / "none" / "faces"),
    "backup: no room": _no_room,
    "backup: a full disk": _full,
    "backup: not allowed": _denied,
    "backup: too many tables": lambda _: backup._unfit("demo", BrokenArchive("it is too large")),
    "backup: stdout and JSON": lambda _: backup_run.to_stdout(_REQUEST, Output(json_mode=True)),
    "backup: a terminal": _terminal,
    "backup: its reader has left": _gone,
    "backup: stdout and --keep": lambda _: backup_run.to_stdout(replace(_REQUEST, keep=3), _QUIET),
    "backup: a file and --keep": lambda folder: backup_run.run(
        replace(_REQUEST, output=str(folder / "faces"), keep=3), _QUIET
    ),
    "schedule: of another kind": lambda _: backup_run.scheduled(_REQUEST, "at"),
    "schedule: into a file": lambda _: backup_run.scheduled(_REQUEST, "cron"),
    "schedule: a passphrase is asked for": lambda _: backup_run.scheduled(
        backup_run.Request("demo", encrypt=True), "cron"
    ),
    "encryption: two kinds": lambda _: protection.chosen(True, ["age1..."], None),
    "encryption: no recipient": lambda _: protection.chosen(False, ["age1nobody"], None),
    "encryption: an empty file of recipients": _empty(encryption.recipients, several=True),
    "encryption: nobody": lambda _: encryption.recipients(()),
    "encryption: an empty passphrase": _empty(
        lambda path: encryption.passphrase_from(path, twice=True)("it")
    ),
    "encryption: no terminal": _no_terminal,
    "encryption: no passphrase given": lambda _: _typed("", ""),
    "encryption: two passphrases": lambda _: _typed("one", "other"),
    "restore: a wrong passphrase": _wrong,
    "restore: a busy machine": _busy,
    "restore: no key": lambda _: _open(b"age-encryption.org/v1\n"),
    "restore: a key without an identity": _empty(lambda path: encryption.identities(path, str)),
    "restore: a key with another content": lambda folder: encryption.identities(
        _with(folder, "AGE-SECRET-KEY-1NONE\n"), str
    ),
    "restore: no such file": lambda folder: restore.restore(folder / "none", None, _QUIET),
    "restore: an empty file": _restored(b""),
    "restore: another file": _restored(b"PGDMP" * 200),
    "restore: compressed": _restored(gzip.compress(made_backup())),
    "restore: cut off": _restored(made_backup()[:-2000]),
    "restore: a changed byte": _restored(_damaged()),
    "restore: of a later cf": _restored(_with_manifest(format=2)),
    "restore: a manifest with a fault": _restored(_with_manifest(tables={"t": -1})),
    "restore: a terminal": _stdin,
    "restore: of a volume, without a name": _restored(None),
    "restore: the instance exists": _existing(volume=False),
    "restore: the volume exists": _existing(volume=True),
    "restore: an older PostgreSQL": _newer,
    "restore: a database elsewhere": _elsewhere,
    "restore: rows are missing": lambda _: restore._incomplete("faces.cfbackup"),
    "restore: an image without PostgreSQL": _no_postgres,
}
