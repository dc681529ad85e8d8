"""Temporary folders that a later run of `cf` can tell from those in use, and removes."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".cf-lock"  # held by its process while the folder is in use; the kernel lets go of it
_WORK = "work"


@contextmanager
def folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """An empty folder below `parent` (else where temporary files go), gone when the block ends.

    What a killed process left under the same prefix is removed first. Raises OSError.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    sweep(prefix, place)
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        handle = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:  # else another cf took it for one that nobody uses
                try:
                    (made / _WORK).mkdir()
                    yield made / _WORK
                finally:
                    shutil.rmtree(made, ignore_errors=True)
                return
        finally:
            os.close(handle)


def sweep(prefix: str, parent: Path | None = None, *, only_look: bool = False) -> list[Path]:
    """Remove the folders of that prefix that `folder` made in a process which lives no more.

    Returns them; with `only_look` they stay.
    """
    place = Path(tempfile.gettempdir()) if parent is None else parent
    removed = []
    for path in sorted(place.glob(f"{prefix}*/{_LOCK}")):
        made = path.parent
        with suppress(OSError):  # in use, somebody else's, or gone by now
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
