"""Files on this machine: their hash, their lock with its holder's name, their errors in words."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compreface_cli.errors import CfError, ConflictError, FetchError

CHUNK = 1 << 20
LOCK_POLL_S = 0.1


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, folder) from error


def disk_error(error: OSError, path: Path) -> CfError:
    """What an OSError met while writing `path` means to a user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(
            f"no space left on the disk while writing {path}",
            hint=f"Free some space where {path.parent} lies, then run the command again.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return FetchError(
            f"cannot write {path}: {os.strerror(error.errno)}",
            hint=f"Make {path.parent} writable for this user, or choose another data folder "
            "with XDG_DATA_HOME.",
        )
    return FetchError(
        f"cannot write {path}: {error.strerror or error}",
        hint=f"Look at {path.parent}, then run the command again.",
    )


@contextmanager
def locked(
    path: Path,
    *,
    note: Callable[[str], None],
    wait_s: float = 600.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock beside `path`; another `cf` that has it is named, and waited for.

    Raises ConflictError with the holder's process when it is not free within `wait_s` seconds.
    """
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    lock_path = path.with_name(f".{path.name}.lock")
    holder_path = path.with_name(f".{path.name}.holder")
    lock = FileLock(lock_path, timeout=0)
    waited, told = 0.0, False
    while True:
        try:
            lock.acquire()
            break
        except Timeout as timeout:
            holder = _read_holder(holder_path)
            if waited >= wait_s:
                raise ConflictError(
                    f"{path.name} is in use by another cf ({holder})",
                    hint="Wait until it has finished, or end that process, then run again.",
                ) from timeout
            if not told:
                note(f"waiting for another cf ({holder}) that works on {path.name}")
                told = True
            sleep(LOCK_POLL_S)
            waited += LOCK_POLL_S
        except OSError as error:
            raise disk_error(error, lock_path) from error
    try:
        _write_holder(holder_path)
        yield
    finally:
        holder_path.unlink(missing_ok=True)
        lock.release()


def _write_holder(path: Path) -> None:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    try:
        path.write_text(json.dumps({"pid": os.getpid(), "command": command}), encoding="utf-8")
    except OSError as error:
        raise disk_error(error, path) from error


def _read_holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f"process {holder['pid']}, `{holder['command']}`"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that left no name"
