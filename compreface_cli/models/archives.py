"""Takes wanted members out of a zip or tar archive whose hash is already proven, within bounds."""

from __future__ import annotations

import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from compreface_cli.models.files import CHUNK, check_room, written
from compreface_cli.models.sources import matches
from compreface_cli.models.tar_stream import (
    BROKEN,
    Bounds,
    Refused,
    check_size,
    kind,
    members,
    plain_name,
    save,
    unpacked,
)

_DIRECTORY_BYTES = 8 << 20  # of a zip archive: some hundred thousand members
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def extract(
    archive: Path,
    form: str,
    wanted: Mapping[str, Path],
    *,
    advance: Callable[[float], None] = lambda amount: None,
    bounds: Bounds | None = None,
) -> dict[str, str]:
    """Write members of the archive to their targets; returns why, for each that cannot be taken.

    `form`: zip or tar, the latter plain or compressed by gzip or xz. `wanted`: the target of each
    path, whose last part may have one `*`; it must match one plain file. A target is written whole
    or not at all. `advance` takes the bytes of the archive as they are read. Raises Refused for a
    whole archive that is not used, FetchError and OSError for a target that cannot be written.
    """
    take = _from_zip if form == "zip" else _from_tar
    drafts = {path: target.with_name(f"{target.name}.draft") for path, target in wanted.items()}
    try:
        refused = take(archive, drafts, advance, bounds or Bounds())
        for path in drafts.keys() - refused.keys():
            drafts[path].replace(wanted[path])
        return refused
    except (zipfile.BadZipFile, NotImplementedError, *BROKEN) as error:
        reason = str(error) or type(error).__name__
        raise Refused(f"the {form} archive cannot be read: {reason}") from error
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def _from_zip(
    archive: Path, drafts: Mapping[str, Path], advance: Callable[[float], None], bounds: Bounds
) -> dict[str, str]:
    refused: dict[str, str] = {}
    with archive.open("rb") as file, zipfile.ZipFile(_Bounded(file)) as opened:
        inside = [(plain_name(entry.filename), entry) for entry in opened.infolist()]
        for path, draft in drafts.items():
            files = {
                (name, number): entry
                for number, (name, entry) in enumerate(inside)
                if matches(path, name) and not (entry.is_dir() and "*" in path)
            }
            try:
                _check_single(path, [name for name, _ in files])
                (entry,) = files.values()
                _check_entry(entry, bounds)
                check_room(entry.filename, entry.file_size, draft.parent)
                with opened.open(entry) as stream:
                    written(draft, _timed(stream, entry.file_size, bounds))
                advance(entry.compress_size)
            except Refused as why:
                refused[path] = str(why)
    return refused


def _check_single(path: str, names: list[str]) -> None:
    """Raises Refused unless there is exactly one match."""
    if not names:
        raise Refused(f"{path} is missing in it")
    if len(names) > 1:
        raise Refused(f"{path} matches more than one member: {' and '.join(sorted(names)[:3])}")


def _check_entry(entry: zipfile.ZipInfo, bounds: Bounds) -> None:
    """Raises Refused for all but a plain file of a size within bounds."""
    mode = entry.external_attr >> 16
    if entry.is_dir():
        raise Refused(f"{entry.filename} is a folder, and only plain files are read")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise Refused(f"{entry.filename} is a link or a special file, and only plain ones are read")
    if entry.flag_bits & 0x1:
        raise Refused(f"{entry.filename} is encrypted")
    if entry.compress_type not in _METHODS:
        raise Refused(f"{entry.filename} is compressed by a method other than deflate")
    check_size(entry.filename, entry.file_size, bounds)


def _timed(stream: IO[bytes], size: int, bounds: Bounds) -> Iterator[bytes]:
    end, got = time.monotonic() + bounds.total_s, 0
    while piece := stream.read(CHUNK):  # ends at the stated size, and checks the CRC there
        got += len(piece)
        if time.monotonic() > end:
            raise Refused(f"it was not read within {bounds.total_s:g} s")
        yield piece
    if got != size:
        raise EOFError("it ends within a file")


class _Bounded:
    """A file of which no more than a zip archive's directory may have is read at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.tell, self.seekable = file.tell, file.seekable

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and offset < 0:  # zipfile does not check where its members lie
            raise zipfile.BadZipFile("a member lies before its beginning")
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        most = _DIRECTORY_BYTES + 1 if size < 0 else size
        if size > _DIRECTORY_BYTES or len(data := self._file.read(most)) > _DIRECTORY_BYTES:
            raise Refused(f"the zip archive's directory exceeds {_DIRECTORY_BYTES} bytes")
        return data


def _from_tar(
    archive: Path, drafts: Mapping[str, Path], advance: Callable[[float], None], bounds: Bounds
) -> dict[str, str]:
    names: dict[str, list[str]] = {path: [] for path in drafts}
    refused: dict[str, str] = {}
    with unpacked(archive, advance) as stream:
        for member, forward in members(stream, bounds):
            name = plain_name(member.name)
            saved: Path | None = None
            for path, draft in drafts.items():
                if not matches(path, name) or (member.isdir() and "*" in path):
                    continue
                names[path].append(name)
                if what := kind(member):
                    refused[path] = f"{name} is {what}, and only plain files are read"
                elif len(names[path]) == 1:
                    try:
                        if saved is None:
                            save(member, forward, draft)
                        else:
                            shutil.copyfile(saved, draft)
                        saved = draft
                    except Refused as why:
                        refused[path] = str(why)
    for path, matched in names.items():
        try:
            _check_single(path, matched)
        except Refused as why:
            refused[path] = str(why)
    return refused
