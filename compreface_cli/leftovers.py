"""Temporary folders; those left by a killed `cf` are recognised and removed by a later run."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".cf-lock"  # flock of the process that uses the folder; the kernel releases it
_WORK = "work"


@contextmanager
def folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """An empty folder below `parent` (default: the system's), removed when the block ends.

    Removes folders of the same prefix that a killed process left. Raises OSError.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    sweep(prefix, place)
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        handle = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:  # else another cf has swept it before the lock was taken
                try:
                    (made / _WORK).mkdir()
                    yield made / _WORK
                finally:
                    shutil.rmtree(made, ignore_errors=True)
                return
        finally:
            os.close(handle)


def sweep(prefix: str, parent: Path | None = None, *, only_look: bool = False) -> list[Path]:
    """Remove the folders that `folder` made with that prefix in a process that has ended.

    Returns their paths; with `only_look` removes nothing.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    removed = []
    for path in sorted(place.glob(f"{prefix}*/{_LOCK}")):
        made = path.parent
        with suppress(OSError):  # in use, another user's, or just removed
            if made.is_symlink() or made.stat().st_uid != os.getuid():
                continue
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not only_look:
                    shutil.rmtree(made, ignore_errors=True)
                removed.append(made)
            finally:
                os.close(handle)
    return removed
