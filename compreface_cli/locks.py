"""File locks between runs of `cf`: each names its holder; the kernel frees it when that ends."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compreface_cli.errors import ConflictError

_POLL_S = 0.05
_GLANCE_S = 0.1  # `holder` in another process takes the lock this briefly


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock; `since` is ISO 8601, UTC."""

    pid: int
    command: str
    since: str

    def __str__(self) -> str:
        return f"'{self.command}' (pid {self.pid}, since {self.since})"


def holder(path: Path) -> Holder | None:
    """The process that holds the lock; None when it is free, or was taken an instant ago."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(handle)
    finally:
        os.close(handle)
    return None


@contextmanager
def hold(
    path: Path,
    what: str,
    *,
    command: str = "",
    wait_s: float = 0.0,
    note: Callable[[str], None] = lambda text: None,
    details: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Hold the lock `path` while working on `what`; its file is removed at the end of the block.

    While another process holds it, waits, and says so once by `note`. Raises ConflictError, which
    names that process, when it is not free within `wait_s` seconds. `command` is how others name
    this process; by default its command line.
    """
    handle = _acquire(path, what, wait_s, note, details or {})
    try:
        command = command or " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        _write(handle, Holder(os.getpid(), command, now), path)
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(handle)


def _write(handle: int, holder: Holder, path: Path) -> None:
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(asdict(holder)).encode(), 0)
    except OSError as error:
        error.filename = str(path)  # for the message about a full disk
        raise


def _acquire(
    path: Path, what: str, wait_s: float, note: Callable[[str], None], details: Mapping[str, Any]
) -> int:
    began, noted = time.monotonic(), False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_nlink:  # else its last holder has just removed the file
                return handle
            os.close(handle)
            continue
        except BlockingIOError:
            other = _read(handle)
            os.close(handle)
        waited = time.monotonic() - began
        if waited >= max(wait_s, _GLANCE_S):
            raise ConflictError(
                f"{what} is in use by {other or 'another cf'}",
                hint="Wait for it to end, or stop that process.",
                details={**details, "holder": asdict(other) if other else None},
            )
        if waited >= _GLANCE_S and not noted:
            note(f"waiting for {other or 'another cf'} to finish with {what}")
            noted = True
        time.sleep(_POLL_S)


def _read(handle: int) -> Holder | None:
    """The holder that a lock file names; None when it has not written its name yet."""
    try:
        document = json.loads(os.pread(handle, 4096, 0))
        return Holder(int(document["pid"]), str(document["command"]), str(document["since"]))
    except (ValueError, KeyError, TypeError):
        return None
