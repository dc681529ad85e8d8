"""Reads the members of a tar stream one after another, within bounds of memory, size and time.

The names of members are compared, never used as paths: a file is written to where its caller says.
"""

from __future__ import annotations

import gzip
import tarfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compreface_cli.models.files import CHUNK, check_room, written

_HEADER_BYTES = 1 << 20  # of one member: its header, long names and extended attributes
BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError)
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.DIRTYPE: "a folder",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


class Refused(Exception):
    """Why the content is not used."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of what is read, in bytes and seconds."""

    member_bytes: int = 4 << 30  # of one wanted file
    unpacked_bytes: int = 32 << 30
    total_s: float = 1800.0


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def kind(member: tarfile.TarInfo) -> str:
    """What the member is in the user's words; empty for a plain file."""
    if member.issparse():
        return "a sparse file"
    return "" if member.isreg() else _KINDS.get(member.type, "a special file")


def plain_name(name: str) -> str:
    """The member's path, without a leading slash or `./`; raises Refused for `..`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"it has a member with '..' in its name: {name[:80]!r}")
    return "/".join(parts)


def members(stream: Readable, bounds: Bounds) -> Iterator[tuple[tarfile.TarInfo, Forward]]:
    """The headers of the stream, one after another, and the stream for the content of each.

    Only one header is kept, so that a million files take no memory. Raises Refused, and the errors
    in BROKEN for a damaged stream.
    """
    forward = Forward(stream, bounds)
    archive = tarfile.TarFile(fileobj=forward, mode="r", encoding="utf-8")  # type: ignore[arg-type]
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield member, forward
        forward.next_member()


def save(member: tarfile.TarInfo, forward: Forward, target: Path) -> None:
    """Write the content of the member that the stream has reached; raises Refused, FetchError."""
    check_size(member.name, member.size, forward.bounds)
    check_room(member.name, member.size, target.parent)
    forward.seek(member.offset_data)
    written(target, forward.content(member.size))


def check_size(name: str, size: int, bounds: Bounds) -> None:
    if size > bounds.member_bytes:
        raise Refused(f"{name} has {size} bytes, more than the limit of {bounds.member_bytes}")


class Forward:
    """A stream that can only be read on, in small pieces and up to a limit.

    tarfile reads the headers through `read`, which is bounded for each member; the content of a
    member comes from `content`.
    """

    def __init__(self, stream: Readable, bounds: Bounds) -> None:
        self.bounds = bounds
        self._stream = stream
        self._at = 0
        self._header = _HEADER_BYTES
        self._end = time.monotonic() + bounds.total_s

    def next_member(self) -> None:
        self._header = _HEADER_BYTES

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._header:
            raise Refused(f"it has a member whose header exceeds {_HEADER_BYTES} bytes")
        self._header -= size
        return b"".join(self._pieces(size))

    def seek(self, position: int) -> None:
        if position < self._at:
            raise tarfile.StreamError("a member of negative size")
        for _ in self._pieces(position - self._at):
            pass

    def content(self, size: int) -> Iterator[bytes]:
        got = 0
        for piece in self._pieces(size):
            got += len(piece)
            yield piece
        if got != size:
            raise EOFError("it ends within a file")

    def _pieces(self, size: int) -> Iterator[bytes]:
        """The next bytes, fewer at the end of the stream."""
        while size > 0:
            piece = self._stream.read(min(size, CHUNK))
            if not piece:
                return
            size -= len(piece)
            self._at += len(piece)
            if self._at > self.bounds.unpacked_bytes:
                raise Refused(f"it unpacks to more than {self.bounds.unpacked_bytes} bytes")
            if time.monotonic() > self._end:
                raise Refused(f"it was not read within {self.bounds.total_s:g} s")
            yield piece
