"""What `down --volumes`, `rm` and `prune` share: things with sizes, the consent, the removal."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compreface_cli.errors import CfError, UsageError
from compreface_cli.terminal.output import Output


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that can go; `size` in bytes on disk, None when nobody knows it."""

    kind: str  # "volume", "image", "build file", ...
    name: str  # of the volume or the image, else the path
    size: int | None
    remove: Callable[[], object]
    why: str = ""

    def row(self) -> dict[str, Any]:
        """For `--json`."""
        return {"kind": self.kind, "name": self.name, "bytes": self.size, "why": self.why}


def path(kind: str, place: Path, *, why: str = "") -> Thing:
    """A file or folder of `cf`'s own."""
    return Thing(kind, str(place), size_of(place), lambda: erase(place), why)


def erase(place: Path) -> None:
    """Remove it, file or folder; gone already is fine."""
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
            hint="What is left goes when the command runs again.",
        ) from error


def size_of(place: Path) -> int:
    """The bytes that it takes on disk; of a file with other names only its share would be freed."""
    total = 0
    for one in (place, *place.rglob("*")) if place.is_dir() else (place,):
        with suppress(OSError):
            found = one.lstat()
            total += found.st_blocks * 512 // (1 if one.is_dir() else max(1, found.st_nlink))
    return total


def words(size: int | None) -> str:
    """A size as people read it: `48 MB`."""
    if size is None:
        return "size unknown"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.{0 if size >= 10 * factor else 1}f} {unit}"
    return f"{size} bytes"


def lines(things: Iterable[Thing]) -> list[str]:
    """One line each: what, which, how large, why."""
    return [
        f"  {thing.kind}: {thing.name}  ({', '.join(filter(None, (words(thing.size), thing.why)))})"
        for thing in things
    ]


def consent(names: Sequence[str], given: Sequence[str], out: Output) -> None:
    """Each name typed once more, or given by `--confirm`; else UsageError, nothing removed."""
    stray = [one for one in given if one not in names]
    if stray:
        raise UsageError(
            f"--confirm {stray[0]}: what would be removed is {' and '.join(names)}",
            hint="Nothing was removed.",
        )
    for name in names:
        if name in given:
            continue
        typed = out.ask(f"This cannot be undone. Type {name} to remove it: ")
        if typed is None:
            raise UsageError(
                f"nothing is removed until the name '{name}' is said once more",
                hint=f"Add --confirm {name}. To see first what goes: --dry-run",
            )
        if typed != name:
            raise UsageError(f"'{typed}' is not '{name}'", hint="Nothing was removed.")


def remove(things: Sequence[Thing], out: Output) -> None:
    """One after another; the first that cannot be removed ends it, and the next run goes on."""
    for thing in things:
        with out.progress(f"Removing the {thing.kind} {thing.name}"):
            thing.remove()
