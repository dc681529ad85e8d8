"""Helpers for model files: hash, lock, and the user's errors for failed writes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from compreface_cli import locks
from compreface_cli.config import paths
from compreface_cli.errors import CfError, ConfigurationError, FetchError

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
            hint=f"{paths.room(path)} Then run the command again.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        variable = paths.moved_by(path)
        other = f"set {variable} to another folder" if variable else "name another place"
        return ConfigurationError(
            f"cannot write {path}: {os.strerror(error.errno)}",
            hint=f"Make {path.parent} writable for this user, or {other}.",
        )
    return FetchError(
        f"cannot write {path}: {error.strerror or error}",
        hint=f"Check {path.parent}, then run the command again.",
    )


def read_table(path: Path, *, what: str, values: type, without_it: str) -> dict[str, Any]:
    """The JSON object in that file, whose values have this type; empty if it does not exist.

    Raises FetchError; `what` names the content, `without_it` says what its removal costs.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or not all(isinstance(v, values) for v in data.values()):
            raise ValueError("it is not a table of models and hashes")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FetchError(
            f"{what} in {path} cannot be read: {error}",
            hint=f"Repair or remove that file; without it, {without_it}.",
        ) from error
    return data


def write_table(path: Path, data: Mapping[str, Any]) -> None:
    """Write the JSON object whole; the caller holds the lock of `path`."""
    make_folder(path.parent)
    part = path.with_suffix(".part")
    try:
        part.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error


def check_room(name: str, size: int, folder: Path) -> None:
    """Raises FetchError if `size` bytes have no room in the folder."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise FetchError(
            f"{name} needs {size} bytes, but {free} are free in {folder}",
            hint="Free some space there, then run the command again.",
        )


def written(path: Path, pieces: Iterable[bytes]) -> None:
    """Write the pieces to the file, and to the disk."""
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


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
