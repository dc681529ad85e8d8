"""The file of a backup: its default place, written whole or not at all, and older ones removed."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from compreface_cli.config import paths
from compreface_cli.errors import CfError, ConfigurationError, ConflictError

SUFFIX = ".cfbackup"
_PART = ".cf-part"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SPARE = 32 << 20  # bytes left free beside an estimate


def default(name: str, suffix: str = "", folder: Path | None = None) -> Path:
    """The path of a backup of that instance or volume that is made now; no file is there yet."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = folder or paths.data_dir() / "backups" / name
    number = 1
    while True:
        more = "" if number == 1 else f"-{number}"
        path = folder / f"{name}-{moment}{more}{SUFFIX}{suffix}"
        if not path.exists():
            return path
        number += 1


def refuse(target: Path, *, force: bool) -> None:
    """Raise for a target that is there (unless `force`), or in no folder."""
    if target.is_dir():
        raise ConfigurationError(
            f"{target} is a folder", hint=f"Name a file, like {target / f'faces{SUFFIX}'}."
        )
    if not target.parent.is_dir():
        raise ConfigurationError(
            f"there is no folder {target.parent}", hint=f"Make it first: mkdir -p {target.parent}"
        )
    if (target.exists() or target.is_symlink()) and not force:
        raise _exists(target)


def _exists(target: Path) -> ConflictError:
    return ConflictError(
        f"{target} exists and is not overwritten",
        hint="Choose another name, or add --force.",
        details={"path": str(target)},
    )


def need_room(folder: Path, size: int, what: str) -> None:
    """Raise if `size` bytes have no room in the folder: `what`, as "a backup of 'demo'"."""
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise CfError(
            f"{what} may need {size >> 20} MiB, and {folder} has {free >> 20} MiB free",
            hint=paths.room(folder),
            details={"needed_bytes": size, "free_bytes": free},
        )


def private(folder: Path) -> None:
    """Make the folder, and those above it, with mode 0700 if they are not there."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise failed(error, folder) from error


@contextmanager
def written(target: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A stream whose content becomes `target`, mode 0600, at the end of the block.

    If the block fails nothing is left. Raises a CfError that names the target if it cannot be
    written, ConflictError if it has come into being meanwhile.
    """
    sweep(target.parent)
    part = target.with_name(f".{target.name}.{os.getpid()}{_PART}")
    try:
        handle = _locked(part)
    except OSError as error:
        raise failed(error, target) from error
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            _move(part, target, force=force)
        _sync(target.parent)
    except OSError as error:
        raise failed(error, target) from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


def _locked(part: Path) -> int:
    """A new file, locked, so that no sweep takes it for one of a killed run."""
    while True:
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else another cf has swept it before the lock was taken
            return handle
        os.close(handle)


def _move(part: Path, target: Path, *, force: bool) -> None:
    if not force:
        try:
            os.link(part, target)  # fails if it exists, which a rename does not
            return
        except FileExistsError as error:
            raise _exists(target) from error
        except OSError:  # a file system without links
            if target.exists():
                raise _exists(target) from None
    part.replace(target)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> list[Path]:
    """Remove the unfinished backups in the folder whose `cf` was killed; returns their paths."""
    removed = []
    for part in folder.glob(f".*{_PART}"):
        with suppress(OSError):  # in use, or just removed
            handle = os.open(part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
                removed.append(part)
            finally:
                os.close(handle)
    return removed


def failed(error: OSError, target: Path) -> CfError:
    """The user's error for an OSError while `target` was written."""
    if error.errno in _FULL:
        return CfError(
            f"{target} cannot be written: {error.strerror}",
            hint=paths.room(target),
            details={"path": str(target), "full": True},
        )
    return ConfigurationError(
        f"{target} cannot be written: {error.strerror or error}",
        hint="Name another place: -o FILE",
        details={"path": str(target)},
    )
