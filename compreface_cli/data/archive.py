"""The container of a backup: a tar of a manifest, a database dump in pieces, and their checksums.

It is written and read as a stream, in pieces of CHUNK bytes. Each byte is determined: a header by
name and size, the padding by the format, the content by the checksums that end the archive.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from compreface_cli.data.plain_tar import (
    BrokenArchive,
    Source,
    TarReader,
    end_of,
    member,
    shown,
    up_to,
)

MANIFEST = "manifest.json"  # the first member
BUILD = "build.yaml"  # the second, of a build that did not come with cf
DUMP = "database/"  # prefix of the pieces: database/000001, ...
SUMS = "checksums.json"  # the last member
MAX_MANIFEST = 4 << 20
MAX_BUILD = 256 << 10  # as a build file may have
CHUNK = 4 << 20  # bytes of each piece of the dump but the last
MAX_CHUNKS = 999_999
_MAX_SUMS = 4 << 10


@dataclass(frozen=True, slots=True)
class Sums:
    """Size in bytes and SHA-256, in hexadecimal digits, of the dump and of the whole archive."""

    dump_bytes: int
    dump_sha256: str
    bytes: int
    sha256: str


class Writer:
    """Makes an archive."""

    def __init__(self, manifest: bytes, build: bytes | None, dump: Source) -> None:
        if len(manifest) > MAX_MANIFEST:
            raise BrokenArchive(f"its manifest has more than {MAX_MANIFEST >> 20} MiB")
        self._texts = _texts(manifest, build)
        self._dump = dump

    def pieces(self) -> Iterator[bytes]:
        """The archive's bytes, at most CHUNK at a time; raises BrokenArchive, and as the dump."""
        size = 0
        for piece in self._parts():
            size += len(piece)
            yield piece
        yield end_of(size)

    def _parts(self) -> Iterator[bytes]:
        for name, text in self._texts.items():
            yield from member(name, text)
        digest, size, number = hashlib.sha256(), 0, 0
        while chunk := up_to(self._dump, CHUNK):
            number += 1
            if number > MAX_CHUNKS:
                raise BrokenArchive(f"a backup has at most {MAX_CHUNKS * CHUNK >> 40} TiB")
            digest.update(chunk)
            size += len(chunk)
            yield from member(_name(number), chunk)
        yield from member(SUMS, _sums(self._texts, size, digest.hexdigest()))


class Reader:
    """Reads an archive in order: its texts at once, then `dump` to its end, which proves it whole.

    Every method raises BrokenArchive, and OSError as the stream does.
    """

    def __init__(self, stream: Source) -> None:
        self._tar = TarReader(stream)
        self.manifest = self._tar.text(self._tar.header(), MANIFEST, MAX_MANIFEST)
        self.build: bytes | None = None
        self._next = self._tar.header()
        if self._next is not None and self._next[0] == BUILD:
            self.build = self._tar.text(self._next, BUILD, MAX_BUILD)
            self._next = self._tar.header()
        self.sums = Sums(0, "", 0, "")

    def dump(self) -> Iterator[bytes]:
        """The dump's bytes; `sums` holds once they are exhausted."""
        digest, size, number, full = hashlib.sha256(), 0, 0, True
        while self._next is not None and self._next[0] != SUMS:
            number += 1
            name, length = self._next
            if name != _name(number) or number > MAX_CHUNKS:
                raise BrokenArchive(f"it has {shown(name)} where {_name(number)} belongs")
            if not full or not 0 < length <= CHUNK:
                raise BrokenArchive(f"{name} in it does not have the size that it must have")
            full = length == CHUNK
            chunk = self._tar.body(length)
            digest.update(chunk)
            size += length
            self._next = self._tar.header()
            yield chunk
        written = self._tar.text(self._next, SUMS, _MAX_SUMS)
        if written != _sums(_texts(self.manifest, self.build), size, digest.hexdigest()):
            raise BrokenArchive("its checksums do not fit its content")
        if self._tar.header() is not None:
            raise BrokenArchive("it has data after its checksums")
        self._tar.end()
        self.sums = Sums(size, digest.hexdigest(), self._tar.size, self._tar.total.hexdigest())


def _texts(manifest: bytes, build: bytes | None) -> dict[str, bytes]:
    return {MANIFEST: manifest, **({} if build is None else {BUILD: build})}


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
