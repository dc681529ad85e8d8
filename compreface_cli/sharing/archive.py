"""The container of an exported build: an uncompressed tar of regular files with fixed headers.

It needs no decompression, so no file in it can be larger than the archive. Only plain ustar headers
are read: no links, no devices, no extended or sparse headers, which could change a name or a size.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

MANIFEST = "export.json"  # the first member
BUILD = "build.yaml"  # the second
MODELS = "models/"  # prefix of the model files; below it a mirror folder (CF_MODELS_MIRROR)
MAX_TEXT = 256 * 1024  # bytes of each of the first two, as a build file may have
MAX_FILES = 512  # a build has at most 16 models of its own with 16 files each, and the catalogue's
MAX_BYTES = 16 << 30  # of the whole archive
_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\:]|^[/~]|^$")  # in a path below a mirror


class BrokenArchive(Exception):
    """Why the file is not an export, in words."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What `read` has seen: the archive's SHA-256, its texts, size and SHA-256 of each file."""

    sha256: str
    texts: Mapping[str, bytes]  # of MANIFEST and BUILD
    files: Mapping[str, tuple[int, str]]  # by path below MODELS


def write(stream: BinaryIO, texts: Mapping[str, bytes], files: Mapping[str, Path]) -> None:
    """Write the texts, then the files by their path below MODELS; equal content, equal bytes.

    Raises BrokenArchive for a path that no ustar header can hold, OSError.
    """
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in (MANIFEST, BUILD):
            archive.addfile(_header(name, len(texts[name])), io.BytesIO(texts[name]))
        for path, place in sorted(files.items()):
            name = f"{MODELS}{path}"
            with place.open("rb") as source:
                size = source.seek(0, io.SEEK_END)
                source.seek(0)
                _path(name)
                try:
                    archive.addfile(_header(name, size), source)
                except ValueError as error:
                    raise BrokenArchive(f"{path} cannot be put into the file: {error}") from error


def _header(name: str, size: int) -> tarfile.TarInfo:
    """A header with the defaults of TarInfo: mode 644, owner 0, no time."""
    header = tarfile.TarInfo(name)
    header.size = size
    return header


def read(stream: BinaryIO, sink: Callable[[str], BinaryIO | None] = lambda path: None) -> Contents:
    """Read a whole archive; each model file is also written to `sink(path)`, if that is a stream.

    Raises BrokenArchive before a byte of an unexpected member is used, and OSError.
    """
    reader = _Reader(stream)
    texts: dict[str, bytes] = {}
    files: dict[str, tuple[int, str]] = {}
    while (header := reader.header()) is not None:
        place = len(texts)
        if place < 2:
            expected = (MANIFEST, BUILD)[place]
            if header.name != expected:
                raise BrokenArchive(f"it has {_shown(header.name)} where {expected} belongs")
            if header.size > MAX_TEXT:
                raise BrokenArchive(f"{expected} is larger than {MAX_TEXT // 1024} KiB")
            texts[expected] = b"".join(reader.body(header.size))
            continue
        path = _path(header.name)
        above = map(str, PurePosixPath(path).parents)
        if path <= next(reversed(files), "") or not files.keys().isdisjoint(above):
            raise BrokenArchive(f"{_shown(path)} in it is a duplicate, or not in order")
        if len(files) == MAX_FILES:
            raise BrokenArchive(f"it has more than {MAX_FILES} files")
        files[path] = (header.size, _copied(reader.body(header.size), sink(path)))
    if len(texts) < 2:
        raise BrokenArchive("it is empty" if not texts else f"it ends before {BUILD}")
    reader.end()
    return Contents(reader.total.hexdigest(), texts, files)


def _copied(chunks: Iterable[bytes], target: BinaryIO | None) -> str:
    digest = hashlib.sha256()
    try:
        for chunk in chunks:
            digest.update(chunk)
            if target is not None:
                target.write(chunk)
    finally:
        if target is not None:
            target.close()
    return digest.hexdigest()


def _path(name: str) -> str:
    """The path below MODELS of the member of that name; it stays there."""
    path = name.removeprefix(MODELS)
    parts = PurePosixPath(path).parts
    if path == name or _UNFIT.search(path) or ".." in parts or "/".join(parts) != path:
        raise BrokenArchive(f"it has {_shown(name)}, which no export has")
    return path


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


class _Reader:
    """Reads blocks in order, hashes all of them, and never more than MAX_BYTES."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = MAX_BYTES
        self.total = hashlib.sha256()

    def _exactly(self, amount: int) -> bytes:
        if amount > self._left:
            raise BrokenArchive(f"it is larger than {MAX_BYTES >> 30} GiB")
        self._left -= amount
        data = self._stream.read(amount)
        if len(data) != amount:
            raise BrokenArchive("it is cut off")
        self.total.update(data)
        return data

    def header(self) -> tarfile.TarInfo | None:
        """The next header; None at the end. Only a regular file's, in the plain ustar form."""
        block = self._exactly(_BLOCK)
        if not any(block):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as error:
            raise BrokenArchive("it is not a tar file, or it is damaged") from error
        if block[156:157] != tarfile.REGTYPE:
            raise BrokenArchive(f"{_shown(header.name)} in it is not a regular file")
        if header.size < 0:
            raise BrokenArchive(f"{_shown(header.name)} in it has no size")
        return header

    def body(self, size: int) -> Iterable[bytes]:
        """The bytes of a member, without its padding."""
        if size > self._left:
            raise BrokenArchive(f"it is larger than {MAX_BYTES >> 30} GiB")
        padding = -size % _BLOCK
        while size:
            chunk = self._exactly(min(size, _CHUNK))
            size -= len(chunk)
            yield chunk
        if any(self._exactly(padding)):
            raise BrokenArchive("it is damaged")

    def end(self) -> None:
        """The rest: zeros up to a whole record of tar."""
        if any(self._exactly(-(MAX_BYTES - self._left) % tarfile.RECORDSIZE)):
            raise BrokenArchive("it is damaged")
        if self._stream.read(1):
            raise BrokenArchive("it has data after its end")
