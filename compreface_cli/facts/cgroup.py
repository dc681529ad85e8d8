"""Limits of a control group, version 1 or 2: memory, processors and processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")
_UNLIMITED = 1 << 62  # version 1 has a number near 2**63 for "no limit"
_Number = TypeVar("_Number", int, float)
_PARENTS = ("docker", "system.slice")  # in which Docker makes its containers' groups


@dataclass(frozen=True, slots=True)
class Limits:
    """What a group and those above it allow; None: no limit, or not known. Memory in bytes."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


def of_process(root: Path = ROOT, own: Path = _SELF) -> Limits:
    """The limits of the group that this process runs in."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return Limits()
    paths = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    return _limits(root, paths)


def of_containers(root: Path = ROOT) -> Limits:
    """The limits of the group in which a local Docker engine makes those of its containers."""
    found = [
        _limits(root, dict.fromkeys(("", "memory", "cpu", "pids"), f"/{parent}"))
        for parent in _PARENTS
    ]
    return Limits(
        _least(each.memory for each in found),
        _least(each.cpus for each in found),
        _least(each.pids for each in found),
    )


def _limits(root: Path, paths: dict[str, str]) -> Limits:
    """`paths`: controller -> path of the group; "" is that of version 2."""

    def above(controller: str) -> Iterator[Path]:
        """The group's folder and those above it, of version 2 and of 1."""
        for base, path in (
            (root, paths.get("")),
            (root / "unified", paths.get("")),
            (root / controller, paths.get(controller)),
        ):
            if path is None or not base.is_dir():
                continue
            folder = base / path.lstrip("/")
            yield folder
            yield from (each for each in folder.parents if each.is_relative_to(base))

    memory = [
        number
        for folder in above("memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (number := _number(folder / name)) is not None and number < _UNLIMITED
    ]
    pids = [n for folder in above("pids") if (n := _number(folder / "pids.max")) is not None]
    cpus = [share for folder in above("cpu") if (share := _cpus(folder)) is not None]
    return Limits(min(memory, default=None), min(cpus, default=None), min(pids, default=None))


def _cpus(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        return int(words[0]) / int(words[1])
    quota = _number(folder / "cpu.cfs_quota_us")
    period = _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _least(values: Iterable[_Number | None]) -> _Number | None:
    return min((value for value in values if value is not None), default=None)
