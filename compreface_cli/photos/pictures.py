"""The pictures that the arguments of a command name; reads their bytes within limits."""

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
# File name extensions of what the engine decodes; only files in folders are filtered by them.
ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .gif .webp .bmp .ico .tif .tiff .jp2 .ppm .pgm .tga".split()
)
MAX_BYTES = MAX_BODY_BYTES
# Names of pipes from a shell's process substitution, `<(...)`; any other FIFO may block for ever.
_SHELL_PIPE = re.compile(r"/dev/(stdin|fd/\d+)|/proc/(self|\d+)/fd/\d+")
_KINDS = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


class Unfit(CfError):
    """A file that cannot be sent as a picture; the message follows its name."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to be sent: its name in the output, and its path."""

    name: str
    path: Path | None  # None: standard input

    def read(self) -> bytes:
        """The bytes; raises Unfit for more than MAX_BYTES or for no regular file, and OSError."""
        if self.path is None:
            return _bounded(sys.stdin.buffer)
        status = self.path.stat()
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        pipe = stat.S_ISFIFO(status.st_mode) and _SHELL_PIPE.fullmatch(str(self.path))
        if kind and not pipe:
            raise Unfit(f"is {kind}, not a picture")
        if status.st_size > MAX_BYTES:
            raise _too_large(f" ({status.st_size / 1024 / 1024:.0f} MiB)")
        with self.path.open("rb") as file:
            return _bounded(file)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The pictures of an argument list, skipped files with reasons, folders without pictures."""

    pictures: tuple[Picture, ...]
    skipped: tuple[str, ...] = field(default=())
    empty: tuple[str, ...] = field(default=())


def gather(arguments: Sequence[str]) -> Gathered:
    """The named files, and from folders, in sorted order, the files with a picture's extension.

    Raises UsageError for a path that does not exist, for `-` given twice and for no picture at all.
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
        hint="In a folder, only files with a picture's extension are used, such as .jpg or .png.",
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
                skipped.append(f"{path}: not the extension of a picture")
            else:
                pictures.append(Picture(str(path), path))


def _bounded(file: BinaryIO) -> bytes:
    # One byte more shows whether that was all; stat gives no size of a pipe or a file in /proc.
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_large("")
    return data


def _too_large(size: str) -> Unfit:
    return Unfit(f"is too large{size}: the engine takes at most {MAX_BYTES // 1024 // 1024} MiB")
