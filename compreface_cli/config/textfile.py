"""Reads the small text files that a user names: bounded, and never from a device or a pipe."""

from __future__ import annotations

import stat
from pathlib import Path

from compreface_cli.errors import ConfigurationError

MAX_BYTES = 256 * 1024


def read_bytes(path: Path, named: str) -> bytes:
    """All of the file; `named` begins every error: where its name comes from, or the name.

    Raises ConfigurationError for what is absent, no regular file, unreadable or above MAX_BYTES.
    """
    try:
        if path.is_dir():
            raise ConfigurationError(f"{named}: is a folder, no file")
        if not stat.S_ISREG(path.stat().st_mode):  # it may never end, or never begin
            raise ConfigurationError(f"{named}: is a device or a pipe, no file")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{named}: there is no such file") from error
    except OSError as error:
        raise ConfigurationError(f"{named}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(
            f"{named}: larger than {MAX_BYTES // 1024} KiB, more than such a file holds"
        )
    return raw


def read_text(path: Path, named: str) -> str:
    """The same as text in UTF-8, with or without a BOM."""
    try:
        return read_bytes(path, named).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{named}: is not UTF-8 text") from error
