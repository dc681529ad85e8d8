"""Reads the members of a tar stream one after another, within bounds of memory, size and time.

The names of members are compared, never used as paths: a file is written to where its caller says.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from compreface_cli.models.files import CHUNK, check_room, written

_HEADER_BYTES = 1 << 20  # of one member: its header, long names and extended attributes
# tarfile lets most kinds of errors pass for headers that make no sense.
BROKEN = (
    *(tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RecursionError),
    *(ValueError, ArithmeticError, LookupError, AttributeError, TypeError),
)
_XZ_BYTES = 256 << 20  # of memory; `xz -9` needs 65 MiB
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


@contextmanager
def unpacked(path: Path, advance: Callable[[float], None]) -> Iterator[Readable]:
    """The tar stream of a file, plain or compressed by gzip or xz; raises Refused for others.

    `advance` takes the bytes of the file as they are read.
    """
    with path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        counted = Counted(file, advance)
        if head[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=counted, mode="rb") as stream:
                yield stream
        elif head == b"\xfd7zXZ\0":
            yield _Xz(counted)
        elif head[:3] == b"BZh" or head[:4] == b"\x28\xb5\x2f\xfd":
            method = "bzip2" if head[:3] == b"BZh" else "zstd"
            raise Refused(f"it is compressed by {method}, which cf cannot read; only gzip and xz")
        else:
            yield counted


class Counted(io.RawIOBase):
    """A stream that tells how much of it was read."""

    def __init__(self, file: Readable, advance: Callable[[float], None]) -> None:
        self._file = file
        self._advance = advance

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self._advance(len(data))
        return data


class _Xz:
    """An unpacked xz stream; lzma.LZMAFile would take as much memory as the file asks for."""

    def __init__(self, file: Readable) -> None:
        import lzma

        self._file = file
        self._unpack = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_BYTES)

    def read(self, size: int, /) -> bytes:
        import lzma

        while not self._unpack.eof:
            packed = self._file.read(CHUNK) if self._unpack.needs_input else b""
            if self._unpack.needs_input and not packed:
                raise EOFError("it ends within the xz stream")
            try:
                data = self._unpack.decompress(packed, size)
            except lzma.LZMAError as error:
                raise EOFError(str(error)) from error
            if data:
                return data
        return b""
