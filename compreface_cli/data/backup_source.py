"""The backup that is to be restored: a file, or a stream that is kept in a file meanwhile."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from compreface_cli import leftovers
from compreface_cli.config import paths
from compreface_cli.data import backup_file, manifest
from compreface_cli.data.archive import Reader, Sums
from compreface_cli.data.manifest import BrokenManifest, Manifest
from compreface_cli.data.plain_tar import BrokenArchive, Source
from compreface_cli.errors import ConfigurationError, DataRefusedError
from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output

# The content of an encrypted backup, or that of a plain one as it is.
Unlock: TypeAlias = Callable[[Source, bytes], AbstractContextManager[Source]]
_HEAD = 64  # bytes by which the kind of a file is recognised
_LOOK_EVERY = 64 << 20  # bytes of a stream between two looks at the room that is left


@dataclass(slots=True)
class Backup:
    """A backup that has been read to its end once, and found whole."""

    name: str
    manifest: Manifest
    build: bytes | None
    sums: Sums
    _again: Callable[[], AbstractContextManager[Source]]

    @contextmanager
    def dump(self) -> Iterator[Iterator[bytes]]:
        """The dump's bytes once more; the last piece comes only if all are as they were.

        Raises DataRefusedError if the file has changed meanwhile.
        """
        with _refusing(self.name), self._again() as stream:
            reader = Reader(stream)
            yield self._checked(reader)

    def _checked(self, reader: Reader) -> Iterator[bytes]:
        held: bytes | None = None
        for piece in reader.dump():
            if held is not None:
                yield held
            held = piece
        if reader.sums != self.sums:
            raise BrokenArchive("it has changed since it was verified")
        if held is not None:
            yield held


@contextmanager
def opened(source: Path | None, out: Output, unlock: Unlock) -> Iterator[Backup]:
    """The verified backup in the file, or from stdin (None); nothing of it is left afterwards.

    Raises DataRefusedError for a file that is no whole backup, ConfigurationError for one that
    cannot be read.
    """
    name = "stdin" if source is None else str(source)
    with ExitStack() as stack:
        raw = stack.enter_context(_raw(source))
        state = os.fstat(raw.fileno())
        kept: BinaryIO | None = None
        if source is None or not stat.S_ISREG(state.st_mode):
            kept = stack.enter_context(_kept(out))
        head = raw.peek(_HEAD)[:_HEAD]
        first: Source = raw if kept is None else _Tee(raw, kept)
        size = None if kept is not None else float(state.st_size)
        with _refusing(name), unlock(first, head) as stream:
            with Heartbeat(out).progress(f"verifying {name}", size) as advance:
                reader = Reader(stream)
                described = manifest.parse(reader.manifest)
                for piece in reader.dump():
                    advance(len(piece))

        @contextmanager
        def again() -> Iterator[Source]:
            second: BinaryIO = raw if kept is None else kept
            second.seek(0)
            with unlock(second, head) as content:
                yield content

        yield Backup(name, described, reader.build, reader.sums, again)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except (BrokenArchive, BrokenManifest) as error:
        raise DataRefusedError(
            f"{name} is no whole backup: {error}",
            hint="Nothing was changed. Take another backup, or get this one again.",
            details={"path": name},
        ) from error


@contextmanager
def _raw(source: Path | None) -> Iterator[io.BufferedReader]:
    if source is None:
        if sys.stdin.isatty():
            raise ConfigurationError(
                "no backup is read from a terminal",
                hint="Name a file, or send it: ... | cf data restore -",
            )
        yield io.BufferedReader(io.FileIO(os.dup(sys.stdin.fileno())))
        return
    try:
        stream = source.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{source} cannot be read: {error.strerror}") from error
    with stream:
        yield stream


@contextmanager
def _kept(out: Output) -> Iterator[BinaryIO]:
    """A file that only this user can read, for what cannot be read twice."""
    parent = paths.data_dir() / "backups"
    backup_file.private(parent)
    with leftovers.folder("cf-stream-", parent) as folder:
        handle = os.open(folder / "backup", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w+b") as stream:
            yield stream


class _Tee:
    """Reads a stream, and keeps in a file what it has read."""

    def __init__(self, source: Source, kept: BinaryIO) -> None:
        self._source, self._kept = source, kept
        self._size, self._look = 0, 0

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        if self._size >= self._look:
            folder = paths.data_dir() / "backups"
            backup_file.need_room(folder, _LOOK_EVERY, "a backup from a stream")
            self._look = self._size + _LOOK_EVERY
        self._size += len(piece)
        try:
            self._kept.write(piece)
        except OSError as error:
            raise backup_file.failed(error, paths.data_dir() / "backups") from error
        return piece


def plain(stream: Source, head: bytes) -> AbstractContextManager[Source]:
    """An `Unlock` that unlocks nothing."""
    return nullcontext(stream)
