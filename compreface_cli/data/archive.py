"""The container of a backup: a tar of a manifest, a database dump in pieces, and their checksums.

It is written and read as a stream, in pieces of CHUNK bytes. Each byte is determined: a header by
name and size, the padding by the format, the content by the checksums that end the archive.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

MANIFEST = "manifest.json"  # the first member
BUILD = "build.yaml"  # the second, of a build that did not come with cf
DUMP = "database/"  # prefix of the pieces: database/000001, ...
SUMS = "checksums.json"  # the last member
MAX_MANIFEST = 4 << 20
MAX_BUILD = 256 << 10  # as a build file may have
CHUNK = 4 << 20  # bytes of each piece of the dump but the last
MAX_CHUNKS = 999_999
_BLOCK = tarfile.BLOCKSIZE
_RECORD = tarfile.RECORDSIZE
_MAX_SUMS = 4 << 10
_GZIP = b"\x1f\x8b"


class BrokenArchive(Exception):
    """Why the file is not a whole backup, in words."""


class Source(Protocol):
    """A stream of bytes: `read` gives at most `size` of them, and b"" only at its end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sums:
    """Size in bytes and SHA-256, in hexadecimal digits, of the dump and of the whole archive."""

    dump_bytes: int
    dump_sha256: str
    bytes: int
    sha256: str


class Writer:
    """Makes an archive; `sums` holds once `pieces` is exhausted."""

    def __init__(self, manifest: bytes, build: bytes | None, dump: Source) -> None:
        if len(manifest) > MAX_MANIFEST:
            raise BrokenArchive(f"its manifest has more than {MAX_MANIFEST >> 20} MiB")
        self._texts = {MANIFEST: manifest, **({} if build is None else {BUILD: build})}
        self._dump = dump
        self.sums = Sums(0, "", 0, "")

    def pieces(self) -> Iterator[bytes]:
        """The archive's bytes, at most CHUNK at a time."""
        total, size = hashlib.sha256(), 0
        for piece in self._parts():
            total.update(piece)
            size += len(piece)
            yield piece
        end = bytes(2 * _BLOCK)
        end += bytes(-(size + len(end)) % _RECORD)
        total.update(end)
        yield end
        dump = self._digest.hexdigest()
        self.sums = Sums(self._size, dump, size + len(end), total.hexdigest())

    def _parts(self) -> Iterator[bytes]:
        for name, text in self._texts.items():
            yield from _member(name, text)
        self._digest, self._size, number = hashlib.sha256(), 0, 0
        while chunk := _up_to(self._dump, CHUNK):
            number += 1
            if number > MAX_CHUNKS:
                raise BrokenArchive(f"a backup has at most {MAX_CHUNKS * CHUNK >> 40} TiB")
            self._digest.update(chunk)
            self._size += len(chunk)
            yield from _member(_name(number), chunk)
        yield from _member(SUMS, _sums(self._texts, self._size, self._digest.hexdigest()))


class Reader:
    """Reads an archive in order: its texts at once, then `dump` to its end, which proves it whole.

    Every method raises BrokenArchive, and OSError as the stream does.
    """

    def __init__(self, stream: Source) -> None:
        self._stream = stream
        self._total = hashlib.sha256()
        self._size = 0
        self.manifest = self._text(self._header(), MANIFEST, MAX_MANIFEST)
        self.build: bytes | None = None
        self._next = self._header()
        if self._next[0] == BUILD:
            self.build = self._text(self._next, BUILD, MAX_BUILD)
            self._next = self._header()
        self.sums = Sums(0, "", 0, "")

    def dump(self) -> Iterator[bytes]:
        """The dump's bytes; `sums` holds once they are exhausted."""
        digest, size, number, full = hashlib.sha256(), 0, 0, True
        while self._next[0] != SUMS:
            number += 1
            name, length = self._next
            if name != _name(number) or number > MAX_CHUNKS:
                raise BrokenArchive(f"it has {_shown(name)} where {_name(number)} belongs")
            if not full or not 0 < length <= CHUNK:
                raise BrokenArchive(f"{name} in it does not have the size that it must have")
            full = length == CHUNK
            chunk = self._body(length)
            digest.update(chunk)
            size += length
            self._next = self._header()
            yield chunk
        found = self._text(self._next, SUMS, _MAX_SUMS)
        texts = {MANIFEST: self.manifest, **({} if self.build is None else {BUILD: self.build})}
        if found != _sums(texts, size, digest.hexdigest()):
            raise BrokenArchive("its checksums do not fit its content")
        if any(self._exactly(_BLOCK)) or any(self._exactly(-self._size % _RECORD)):
            raise BrokenArchive("it is damaged at its end")
        if self._stream.read(1):
            raise BrokenArchive("it has data after its end")
        self.sums = Sums(size, digest.hexdigest(), self._size, self._total.hexdigest())

    def _header(self) -> tuple[str, int]:
        """Name and size of the next member; ("", 0) where the archive ends."""
        block = self._exactly(_BLOCK)
        if not any(block):
            raise BrokenArchive("it ends before its checksums")
        try:
            header = tarfile.TarInfo.frombuf(block, "ascii", "strict")
            same = block == _header(header.name, header.size)
        except (tarfile.HeaderError, ValueError) as error:
            raise BrokenArchive(
                "it is damaged" if self._size > _BLOCK else "it is not a backup of cf"
            ) from error
        if not same:
            what = "is damaged" if header.name in (MANIFEST, BUILD, SUMS) else "is no part of one"
            raise BrokenArchive(f"{_shown(header.name)} in it {what}")
        return header.name, header.size

    def _text(self, header: tuple[str, int], expected: str, limit: int) -> bytes:
        name, size = header
        if name != expected:
            raise BrokenArchive(f"it has {_shown(name)} where {expected} belongs")
        if size > limit:
            raise BrokenArchive(f"{name} in it is larger than {limit >> 10} KiB")
        return self._body(size)

    def _body(self, size: int) -> bytes:
        data = self._exactly(size)
        if any(self._exactly(-size % _BLOCK)):
            raise BrokenArchive("it is damaged")
        return data

    def _exactly(self, amount: int) -> bytes:
        data = _up_to(self._stream, amount)
        if not self._size and data.startswith(_GZIP):
            raise BrokenArchive("it is compressed with gzip; gunzip it first")
        if len(data) != amount:
            raise BrokenArchive("it is cut off" if self._size or data else "it is empty")
        self._size += amount
        self._total.update(data)
        return data


def _up_to(stream: Source, amount: int) -> bytes:
    """The next bytes of the stream: fewer than `amount` only at its end."""
    pieces, left = [], amount
    while left and (piece := stream.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _member(name: str, content: bytes) -> Iterable[bytes]:
    padding = bytes(-len(content) % _BLOCK)
    return (
        (_header(name, len(content)), content, padding)
        if padding
        else (
            _header(name, len(content)),
            content,
        )
    )


def _header(name: str, size: int) -> bytes:
    """A plain ustar header of a regular file: mode 600, owner 0, no time."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    return header.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")


def _name(number: int) -> str:
    return f"{DUMP}{number:06d}"


def _sums(texts: dict[str, bytes], dump_bytes: int, dump_sha256: str) -> bytes:
    """The text of SUMS, determined to the byte."""
    sums: dict[str, dict[str, object]] = {
        name: {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        for name, text in texts.items()
    }
    sums["database"] = {"bytes": dump_bytes, "sha256": dump_sha256}
    return json.dumps(sums, indent=1).encode() + b"\n"


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")
