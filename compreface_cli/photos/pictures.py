"""The pictures that the arguments of a command mean, and their bytes, read within bounds."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from compreface_cli.config.settings_table import MAX_BODY_BYTES
from compreface_cli.errors import CfError, UsageError

STDIN = "-"
# What the engine decodes, by the ending of the name; only a folder is filtered by it.
ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .gif .webp .bmp .ico .tif .tiff .jp2 .ppm .pgm .tga".split()
)
MAX_BYTES = MAX_BODY_BYTES
# How a shell names a pipe that a process is to read, `<(...)`; any other FIFO may wait for ever.
_HANDED_OVER = re.compile(r"/dev/(stdin|fd/\d+)|/proc/(self|\d+)/fd/\d+")
_KINDS = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


class Unfit(CfError):
    """What was named is no picture that can be sent; the message is put behind its name."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to be sent: how it is called, and where its bytes are."""

    name: str
    path: Path | None  # None: standard input

    def read(self) -> bytes:
        """At most MAX_BYTES; raises Unfit for more and for what is no file, OSError as it comes."""
        if self.path is None:
            return _bounded(sys.stdin.buffer)
        found = self.path.stat()
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        pipe = stat.S_ISFIFO(found.st_mode) and _HANDED_OVER.fullmatch(str(self.path))
        if kind and not pipe:
            raise Unfit(f"is {kind}, not a picture")
        if found.st_size > MAX_BYTES:
            raise _too_large(f" ({found.st_size / 1024 / 1024:.0f} MiB)")
        with self.path.open("rb") as file:
            return _bounded(file)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The pictures of an argument list; what is passed over and why; folders without any."""

    pictures: tuple[Picture, ...]
    skipped: tuple[str, ...] = field(default=())
    empty: tuple[str, ...] = field(default=())


def gather(arguments: Sequence[str]) -> Gathered:
    """Files as they are named; folders walked in sorted order, for names that look like pictures.

    Raises UsageError for a path that does not exist and for `-` given twice.
    """
    if list(arguments).count(STDIN) > 1:
        raise UsageError("standard input can be read only once")
    pictures: list[Picture] = []
    skipped: list[str] = []
    empty: list[str] = []
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN:
            pictures.append(Picture("standard input", None))
        elif path.is_dir():
            before = len(pictures)
            _walk(path, pictures, skipped)
            if len(pictures) == before:
                empty.append(argument)
        elif path.exists():
            pictures.append(Picture(argument, path))
        else:
            raise UsageError(f"there is no file or folder {argument}")
    if not pictures:
        raise no_picture_in(empty)
    return Gathered(tuple(pictures), tuple(skipped), tuple(empty))


def no_picture_in(folders: Sequence[str]) -> UsageError:
    return UsageError(
        f"no picture in {', '.join(folders)}",
        hint="A folder is searched for names that end like a picture, .jpg or .png.",
    )


def _walk(folder: Path, pictures: list[Picture], skipped: list[str]) -> None:
    for at, folders, names in os.walk(folder):
        skipped.extend(
            f"{os.path.join(at, name, '')}: hidden"
            for name in sorted(folders)
            if name.startswith(".")
        )
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(at) / name
            if name.startswith("."):
                skipped.append(f"{path}: hidden")
            elif path.suffix.lower() not in ENDINGS:
                skipped.append(f"{path}: not a picture by its name")
            else:
                pictures.append(Picture(str(path), path))


def _bounded(file: BinaryIO) -> bytes:
    # One byte more tells whether that was all; the size of a pipe or of /proc says nothing.
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_large("")
    return data


def _too_large(size: str) -> Unfit:
    return Unfit(f"is too large{size}: the engine takes at most {MAX_BYTES // 1024 // 1024} MiB")
