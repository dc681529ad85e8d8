"""`cf data backup --keep N`: removes the older backups of an instance, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compreface_cli.data import encryption, locked, manifest
from compreface_cli.data.archive import Reader
from compreface_cli.data.backup_file import SUFFIX
from compreface_cli.data.manifest import BrokenManifest
from compreface_cli.data.plain_tar import BrokenArchive
from compreface_cli.facts.places import Place
from compreface_cli.terminal.output import Output

_MOMENT = re.compile(r"-(\d{8}T\d{6}Z)(?:-(\d+))?$")


@dataclass(frozen=True, slots=True, order=True)
class _Own:
    """A backup of the place; ordered by the moment at which it was made."""

    moment: tuple[str, int]
    path: Path


def thin(newest: Path, place: Place, keep: int, out: Output) -> list[Path]:
    """Keep `keep` whole backups of the place in the folder of `newest`, which is one; remove older.

    Only files named as `cf` names them, whose manifest is of this instance and volume, are removed;
    of an encrypted one the name decides. Returns the paths of the removed ones.
    """
    whole, removed = 1, []
    for own in sorted(_own(newest, place), reverse=True):
        if whole >= keep:
            try:
                own.path.unlink()
            except OSError as error:
                out.warning(f"{own.path} cannot be removed: {error.strerror}")
            else:
                removed.append(own.path)
        elif _is_whole(own.path):
            whole += 1
        else:
            out.warning(f"{own.path} is no whole backup; it is left and does not count")
    return removed


def _own(newest: Path, place: Place) -> Iterator[_Own]:
    before = _moment(newest, place.name)
    for path in newest.parent.iterdir():
        moment = _moment(path, place.name)
        older = moment is not None and (before is None or moment < before)
        if moment is None or not older or path.is_symlink() or not path.is_file():
            continue
        if _is_of(path, place):
            yield _Own(moment, path)


def _moment(path: Path, name: str) -> tuple[str, int] | None:
    """The moment in the name of a backup of that place; None for another file."""
    stem, suffix, rest = path.name.partition(SUFFIX)
    match = _MOMENT.search(stem)
    if not suffix or rest not in ("", ".age", ".locked") or match is None:
        return None
    return (match[1], int(match[2] or 1)) if stem[: match.start()] == name else None


def _is_of(path: Path, place: Place) -> bool:
    try:
        with path.open("rb") as stream:
            head = stream.peek(64)
            if head.startswith((encryption.MAGIC, locked.MAGIC)):
                return not path.name.endswith(SUFFIX)
            described = manifest.parse(Reader(stream).manifest)
    except (BrokenArchive, BrokenManifest, OSError):
        return False
    return (described.instance, described.volume) == (place.instance, place.volume)


def _is_whole(path: Path) -> bool:
    """Whether it can be restored, as far as that can be seen without its key."""
    if not path.name.endswith(SUFFIX):
        return path.stat().st_size > 0
    try:
        with path.open("rb") as stream:
            for _ in Reader(stream).dump():
                pass
    except (BrokenArchive, OSError):
        return False
    return True
