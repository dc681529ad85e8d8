"""A rendered project: its files by path, whatever target they are for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file that is copied unchanged."""

    source: Path
    sha256: str

    @classmethod
    def of(cls, source: Path) -> FileRef:
        is_now = source.stat()
        return cls(source, _sha256(source, is_now.st_mtime_ns, is_now.st_size))


@cache
def _sha256(source: Path, mtime_ns: int, size: int) -> str:
    """Of a file as it was then: a project is rendered once to compare it and once to write it."""
    with source.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


Content: TypeAlias = str | FileRef


@dataclass(frozen=True, slots=True)
class RenderedProject:
    """The files by their path in the folder; `.env` is created when the project is written."""

    instance: str
    files: Mapping[str, Content]
    # passwords that the user has set; the others are generated once
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    calculator: str = ""  # of the embeddings in its database; "" without a database
    volume: str = ""  # with existing data; "": it has one of its own, or none
    # whether it may make its database's password up, which no other server has
    own_database: bool = True
    # files of mode 0600 that are made of `.env` whenever that is written: path -> template
    secret_files: Mapping[str, str] = field(default_factory=dict)
    services: str = "full"
    generated: tuple[str, ...] = ()  # keys of `.env`, beside the passwords, that are made once

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every file."""
        return {
            path: content.sha256
            if isinstance(content, FileRef)
            else hashlib.sha256(content.encode()).hexdigest()
            for path, content in self.files.items()
        }

    def digest(self) -> str:
        """One SHA-256 over all paths and contents."""
        lines = "".join(f"{path}\0{sha}\n" for path, sha in sorted(self.hashes().items()))
        return hashlib.sha256(lines.encode()).hexdigest()
