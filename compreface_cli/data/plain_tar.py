"""A tar of regular files with fixed headers, as a stream: same content, same bytes.

Only the very header that `member` would write is accepted: no links, no owners, no times, no
extended headers, so that nothing in a file is left to change.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from typing import Protocol

BLOCK = tarfile.BLOCKSIZE
_GZIP = b"\x1f\x8b"


class BrokenArchive(Exception):
    """Why the file is not a whole backup, in words."""


class Source(Protocol):
    """A stream of bytes: `read` gives at most `size` of them, and b"" only at its end."""

    def read(self, size: int, /) -> bytes: ...


class TarReader:
    """Reads members in order; `total` hashes all bytes, `size` counts them.

    Every method raises BrokenArchive, and OSError as the stream does.
    """

    def __init__(self, stream: Source) -> None:
        self._stream = stream
        self.total = hashlib.sha256()
        self.size = 0

    def header(self) -> tuple[str, int] | None:
        """Name and size of the next member; None where the archive ends."""
        block = self._exactly(BLOCK)
        if not any(block):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
            same = block == _header(header.name, header.size)
        except (tarfile.HeaderError, ValueError) as error:
            raise BrokenArchive(
                "it is damaged" if self.size > BLOCK else "it is not a backup of cf"
            ) from error
        if not same:
            raise BrokenArchive(f"the header of {shown(header.name)} in it is not one of cf")
        return header.name, header.size

    def text(self, header: tuple[str, int] | None, expected: str, limit: int) -> bytes:
        """The content of the member with that header; raises for another name or size."""
        if header is None:
            raise BrokenArchive(f"it ends where {expected} belongs")
        name, size = header
        if name != expected:
            raise BrokenArchive(f"it has {shown(name)} where {expected} belongs")
        if size > limit:
            raise BrokenArchive(f"{name} in it is larger than {limit >> 10} KiB")
        return self.body(size)

    def body(self, size: int) -> bytes:
        """The content of a member of that size."""
        data = self._exactly(size)
        if any(self._exactly(-size % BLOCK)):
            raise BrokenArchive("it is damaged")
        return data

    def end(self) -> None:
        """The rest, after `header` has met the end: zeros up to a whole record of tar."""
        if any(self._exactly(BLOCK)) or any(self._exactly(-self.size % tarfile.RECORDSIZE)):
            raise BrokenArchive("it is damaged at its end")
        if self._stream.read(1):
            raise BrokenArchive("it has data after its end")

    def _exactly(self, amount: int) -> bytes:
        data = up_to(self._stream, amount)
        if not self.size and data.startswith(_GZIP):
            raise BrokenArchive("it is compressed with gzip; gunzip it first")
        if len(data) != amount:
            raise BrokenArchive("it is cut off" if self.size or data else "it is empty")
        self.size += amount
        self.total.update(data)
        return data


def up_to(stream: Source, amount: int) -> bytes:
    """The next bytes of the stream: fewer than `amount` only at its end."""
    pieces, left = [], amount
    while left and (piece := stream.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def member(name: str, content: bytes) -> Iterator[bytes]:
    """The bytes of a member, in parts."""
    yield _header(name, len(content))
    yield content
    yield bytes(-len(content) % BLOCK)


def end_of(size: int) -> bytes:
    """The end of an archive whose members have so many bytes."""
    end = 2 * BLOCK
    return bytes(end + -(size + end) % tarfile.RECORDSIZE)


def _header(name: str, size: int) -> bytes:
    """A plain ustar header of a regular file: mode 600, owner 0, no time."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    return header.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def shown(name: str) -> str:
    """A name out of an archive, for a message."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
