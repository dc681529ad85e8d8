"""Reads small text files that the user names: size-limited, regular files only."""

from __future__ import annotations

import stat
from pathlib import Path

from compreface_cli.errors import ConfigurationError

MAX_BYTES = 256 * 1024


def read_bytes(path: Path, named: str) -> bytes:
    """The whole file; `named` is the prefix of every error: the file, or where it is named.

    Raises ConfigurationError if it is absent, unreadable, no regular file or above MAX_BYTES.
    """
    try:
        if path.is_dir():
            raise ConfigurationError(f"{named}: is a folder, not a file")
        if not stat.S_ISREG(path.stat().st_mode):  # reading it may never end
            raise ConfigurationError(f"{named}: is a device or a pipe, not a file")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{named}: there is no such file") from error
    except OSError as error:
        raise ConfigurationError(f"{named}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(f"{named}: is larger than the limit of {MAX_BYTES // 1024} KiB")
    return raw


def read_text(path: Path, named: str) -> str:
    """The whole file as text: UTF-8, with or without a BOM; raises as `read_bytes`."""
    try:
        return read_bytes(path, named).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{named}: is not UTF-8 text") from error
