"""Shared by `down --volumes`, `rm` and `prune`: things to remove, their sizes, the confirmation."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compreface_cli.errors import CfError, UsageError
from compreface_cli.terminal.output import Output


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that can be removed; `size` in bytes on disk, None if unknown."""

    kind: str  # "volume", "image", "build file", ...
    name: str  # of the volume or the image, else the path
    size: int | None
    remove: Callable[[], object]
    why: str = ""

    def row(self) -> dict[str, Any]:
        """For `--json`."""
        return {"kind": self.kind, "name": self.name, "bytes": self.size, "why": self.why}


def of_path(kind: str, place: Path, *, why: str = "") -> Thing:
    """The Thing of a file or folder that `cf` made."""
    return Thing(kind, str(place), size_of(place), lambda: erase(place), why)


def erase(place: Path) -> None:
    """Remove a file or folder, if it exists; raises CfError."""
    try:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CfError(
            f"{error.filename or place} cannot be removed: {error.strerror}",
            hint="Run the command again to remove the rest.",
        ) from error


def size_of(place: Path) -> int:
    """Bytes on disk of a file or folder; a file with several hard links counts by its share."""
    total = 0
    for file in (place, *place.rglob("*")) if place.is_dir() else (place,):
        with suppress(OSError):
            status = file.lstat()
            total += status.st_blocks * 512 // (1 if file.is_dir() else max(1, status.st_nlink))
    return total


def size_words(size: int | None) -> str:
    """A size in decimal units: `48 MB`."""
    if size is None:
        return "size unknown"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.{0 if size >= 10 * factor else 1}f} {unit}"
    return f"{size} bytes"


def lines(things: Sequence[Thing]) -> list[str]:
    """A line for each: kind, name, size, reason."""
    notes = [", ".join(filter(None, (size_words(thing.size), thing.why))) for thing in things]
    return [
        f"  {thing.kind}: {thing.name}  ({note})" for thing, note in zip(things, notes, strict=True)
    ]


def confirm(names: Sequence[str], given: Sequence[str], out: Output) -> None:
    """Have the user type each name, unless `--confirm` gave it; raises UsageError without it."""
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UsageError(
            f"--confirm {unknown[0]}: what would be removed is {' and '.join(names)}",
            hint="Nothing was removed.",
        )
    for name in names:
        if name in given:
            continue
        typed = out.ask(f"This cannot be undone. Type {name} to remove it: ")
        if typed is None:
            raise UsageError(
                f"removing '{name}' needs a confirmation",
                hint=f"Add --confirm {name}. To see what would be removed: --dry-run",
            )
        if typed != name:
            raise UsageError(f"'{typed}' is not '{name}'", hint="Nothing was removed.")


def remove(things: Sequence[Thing], out: Output) -> None:
    """Remove them in order; the first failure ends the run, and the next run continues."""
    for thing in things:
        with out.progress(f"Removing the {thing.kind} {thing.name}"):
            thing.remove()
