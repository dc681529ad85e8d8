"""Helpers for model files: hash, lock, and the user's errors for failed writes."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from compreface_cli import locks
from compreface_cli.errors import CfError, FetchError

CHUNK = 1 << 20


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
    """The user's error for an OSError while writing `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(
            f"no space left on the disk while writing {path}",
            hint=f"Free some space on the disk of {path.parent}, then run the command again.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return FetchError(
            f"cannot write {path}: {os.strerror(error.errno)}",
            hint=f"Make {path.parent} writable for this user, or choose another data folder "
            "with XDG_DATA_HOME.",
        )
    return FetchError(
        f"cannot write {path}: {error.strerror or error}",
        hint=f"Check {path.parent}, then run the command again.",
    )


def lock_of(path: Path) -> Path:
    """The file by which `locked` holds that path."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def locked(path: Path, *, note: Callable[[str], None], wait_s: float = 600.0) -> Iterator[None]:
    """Hold the lock of `path`; waits for another `cf` that holds it, and names it by `note`.

    Raises ConflictError with the holder when it is not free within `wait_s` seconds, FetchError
    when the lock cannot be written.
    """
    make_folder(path.parent)
    file = lock_of(path)
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.hold(file, path.name, wait_s=wait_s, note=note))
        except OSError as error:
            raise disk_error(error, file) from error
        yield
