"""Reads wanted files out of the layers of an image, each a tar stream, within bounds.

The names of members are compared, never used as paths: a file is written to where its caller says.
Whiteouts are those of the OCI image specification (layer.md): `.wh.NAME` removes NAME of the layers
below, `.wh..wh..opq` all that they have in its folder.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from compreface_cli.errors import FetchError
from compreface_cli.models.files import CHUNK
from compreface_cli.models.registry.manifest import Unusable
from compreface_cli.models.sources import matches

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_HEADER_BYTES = 1 << 20  # of one member: its header, long names and extended attributes
# tarfile lets most kinds of errors pass for headers that make no sense.
_BROKEN = (
    *(tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RecursionError),
    *(ValueError, ArithmeticError, LookupError, AttributeError, TypeError),
)
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.DIRTYPE: "a folder",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of the search in one layer, in bytes and seconds."""

    member_bytes: int = 4 << 30  # of one wanted file
    unpacked_bytes: int = 32 << 30
    total_s: float = 1800.0


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(slots=True)
class Search:
    """A search for files through the layers of an image, from the top down.

    `open`: path or pattern of each file that is still to come, and where it is written. Within a
    layer the last of several members of one name counts, as when the layer is unpacked.
    """

    open: dict[str, Path]
    bounds: Bounds = field(default_factory=Bounds)
    _removed: set[str] = field(default_factory=set)  # by the layers above
    _emptied: set[str] = field(default_factory=set)

    def layer(self, stream: Readable, *, below: str = "") -> None:
        """Write the files that this tar stream has, and remember what it removes.

        `below`: the folder that its names are relative to. Raises Unusable, FetchError, OSError.
        """
        try:
            self._layer(stream, below)
        except _BROKEN as error:
            raise Unusable(f"a layer is damaged: {str(error) or type(error).__name__}") from error

    def _layer(self, stream: Readable, below: str) -> None:
        here: dict[str, dict[str, str]] = {}  # pattern -> name of each match -> "" or its kind
        removed: set[str] = set()
        emptied: set[str] = set()
        for member, forward in _members(stream, self.bounds):
            name = _plain_name(member.name, below)
            folder, _, last = name.rpartition("/")
            if last == _OPAQUE:
                emptied.add(folder)
            elif last.startswith(_WHITEOUT):
                gone = f"{folder}/{last.removeprefix(_WHITEOUT)}".lstrip("/")
                if any(_concerns(gone, pattern) for pattern in self.open):
                    removed.add(gone)
            elif not self._hidden(name):
                for pattern, target in self.open.items():
                    self._consider(member, name, pattern, target, here, forward)
        for pattern, matched in here.items():
            name, kind = next(iter(matched.items()))
            if len(matched) > 1:
                names = " and ".join(sorted(matched)[:3])
                raise Unusable(f"{pattern} matches more than one file: {names}")
            if kind:
                raise Unusable(f"{name} is {kind} in the image, and only plain files are read")
            del self.open[pattern]
        self._removed |= removed
        self._emptied |= {folder for folder in emptied if self._above(folder)}
        for pattern in self.open:
            if self._hidden(pattern):
                raise Unusable(f"{pattern} is missing: a layer of the image removes it")

    def _consider(
        self,
        member: tarfile.TarInfo,
        name: str,
        pattern: str,
        target: Path,
        here: dict[str, dict[str, str]],
        forward: _Forward,
    ) -> None:
        if matches(pattern, name):
            if member.isdir() and "*" in pattern:
                return
            matched = here.setdefault(pattern, {})
            matched[name] = _kind(member)
            if not matched[name] and len(matched) == 1:
                self._write(member, name, target, forward)
        elif pattern.startswith(f"{name}/") and not member.isdir():
            raise Unusable(f"{pattern} lies behind {name}, which is {_kind(member) or 'a file'}")

    def _write(self, member: tarfile.TarInfo, name: str, target: Path, forward: _Forward) -> None:
        if member.size > self.bounds.member_bytes:
            raise Unusable(
                f"{name} has {member.size} bytes, more than the limit of {self.bounds.member_bytes}"
            )
        free = shutil.disk_usage(target.parent).free
        if member.size > free:
            raise FetchError(
                f"{name} needs {member.size} bytes, but {free} are free in {target.parent}",
                hint="Free some space there, then run the command again.",
            )
        forward.seek(member.offset_data)
        with target.open("wb") as file:
            for chunk in forward.content(member.size):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def _hidden(self, name: str) -> bool:
        """Whether a layer above has removed this file."""
        if name in self._removed:
            return True
        parts = name.split("/")
        folders = ("/".join(parts[:length]) for length in range(len(parts)))
        return any(folder in self._removed or folder in self._emptied for folder in folders)

    def _above(self, folder: str) -> bool:
        return any(not folder or pattern.startswith(f"{folder}/") for pattern in self.open)


def _concerns(gone: str, pattern: str) -> bool:
    return matches(pattern, gone) or pattern.startswith(f"{gone}/")


def _kind(member: tarfile.TarInfo) -> str:
    """What the member is in the user's words; empty for a plain file."""
    if member.issparse():
        return "a sparse file"
    return "" if member.isreg() else _KINDS.get(member.type, "a special file")


def _plain_name(name: str, below: str) -> str:
    """The path in the image, without a leading slash; raises Unusable for `..`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Unusable(f"a layer has a member with '..' in its name: {name[:80]!r}")
    return "/".join([*([below] if below else []), *parts])


class _Forward:
    """A stream that can only be read on, in small pieces and up to a limit.

    tarfile reads the headers through `read`, which is bounded for each member; the content of a
    member comes from `content`.
    """

    def __init__(self, stream: Readable, bounds: Bounds) -> None:
        self._stream = stream
        self._bounds = bounds
        self._at = 0
        self._header = _HEADER_BYTES
        self._end = time.monotonic() + bounds.total_s

    def next_member(self) -> None:
        self._header = _HEADER_BYTES

    def tell(self) -> int:
        return self._at

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._header:
            raise Unusable(f"a layer has a member whose header exceeds {_HEADER_BYTES} bytes")
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
            raise EOFError("the layer ends within a file")

    def _pieces(self, size: int) -> Iterator[bytes]:
        """The next bytes, fewer at the end of the stream."""
        while size > 0:
            piece = self._stream.read(min(size, CHUNK))
            if not piece:
                return
            size -= len(piece)
            self._at += len(piece)
            if self._at > self._bounds.unpacked_bytes:
                raise Unusable(f"a layer unpacks to more than {self._bounds.unpacked_bytes} bytes")
            if time.monotonic() > self._end:
                raise Unusable(f"a layer was not read within {self._bounds.total_s:g} s")
            yield piece


def _members(stream: Readable, bounds: Bounds) -> Iterator[tuple[tarfile.TarInfo, _Forward]]:
    """The headers of a tar stream, one after another, and the stream for the content of each.

    Only one header is kept, so that a million files take no memory.
    """
    forward = _Forward(stream, bounds)
    archive = tarfile.TarFile(fileobj=forward, mode="r", encoding="utf-8")  # type: ignore[arg-type]
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield member, forward
        forward.next_member()


@contextmanager
def unpacked(path: Path, advance: Callable[[float], None]) -> Iterator[Readable]:
    """The tar stream of a layer's file, which may be compressed by gzip; raises Unusable."""
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        if head == b"\x28\xb5\x2f\xfd":
            raise Unusable("its layer is compressed by zstd, which cf cannot read; only gzip")
        counted = Counted(file, advance)
        if head[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=counted, mode="rb") as stream:
                yield stream
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
