"""How much memory this process may take: the least of what cgroups, ulimit and machine allow."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compreface_engine.core.errors import ConfigurationError

MEBIBYTE: Final = 1 << 20
CHOSEN: Final = "CF_MAX_MEMORY_BYTES"
WORKING: Final = 112 * MEBIBYTE
WORKING_EACH: Final = 8 * MEBIBYTE
"""What the arenas of the networks come to hold after the start, and more of it for each worker.
FaceNet's build, ONNX Runtime: 114 MB with two workers, 136 with eight; embedded 77 and 98."""
KEPT: Final = 64 * MEBIBYTE
"""Freed memory that stays: 32 MiB at the end of the heap (`core.heap`), and as much as a margin."""
_UNLIMITED: Final = 1 << 60  # cgroup v1 says "none" with a number near 2**63


@dataclass(frozen=True, slots=True)
class Room:
    """`free` bytes for this process beyond what it holds, of `size` that `source` allows it."""

    free: int
    size: int
    source: str


@dataclass(frozen=True, slots=True)
class Shares:
    """How the memory is divided: bytes for bodies that wait and for pictures; None: no limit."""

    bodies: int
    pictures: int | None
    room: Room | None

    def __str__(self) -> str:
        if self.room is None or self.pictures is None:
            return "memory: no limit is known here, so pictures may take any"
        return (
            f"memory: {self.room.size >> 20} MiB ({self.room.source}), "
            f"{self.room.free >> 20} of them free; {self.pictures >> 20} for pictures, "
            f"{self.bodies >> 20} for bodies"
        )


def shares(chosen: int, *, bodies: int, body: int, workers: int, root: Path = Path("/")) -> Shares:
    """What bodies and pictures may take. To be called when all networks are loaded.

    `chosen` bytes for the whole process, 0 for what the system allows; `bodies` is what they may
    take at most, `body` the largest, `workers` how many compute at once. Raises ConfigurationError
    where `chosen` is less than what the process holds already.
    """
    room = least_room(chosen, root)
    if room is None:
        return Shares(bodies, None, None)
    if chosen and room.free <= 0:
        raise ConfigurationError(
            f"{CHOSEN}={chosen}: the networks alone take {chosen - room.free} bytes"
        )
    free = max(0, room.free)
    bodies = min(bodies, max(body, free // 8))
    # Where there is little, pictures have a quarter whatever the rest may come to need.
    left = free - bodies - WORKING - workers * WORKING_EACH - min(KEPT, free // 8)
    return Shares(bodies, max(left, free // 4, 16 * MEBIBYTE), room)


def least_room(chosen: int, root: Path = Path("/")) -> Room | None:
    """The tightest limit there is; None where none is known."""
    status = _fields(root / "proc/self/status")
    resident = status.get("VmRSS", 0)
    if chosen:
        return Room(chosen - resident, chosen, CHOSEN)
    found = [*_cgroups(root, resident), *_address_space(status.get("VmSize", 0)), *_machine(root)]
    return min(found, key=lambda room: room.free, default=None)


def _machine(root: Path) -> Iterator[Room]:
    memory = _fields(root / "proc/meminfo")
    if "MemAvailable" in memory and "MemTotal" in memory:
        yield Room(memory["MemAvailable"], memory["MemTotal"], "this machine")


def _address_space(held: int) -> Iterator[Room]:
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and held:
        yield Room(limit - held, limit, "its address space, ulimit -v")


def _cgroups(root: Path, resident: int) -> Iterator[Room]:
    """The own cgroup and those around it, as far as they are to be seen from here."""
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache")
        else:
            continue
        place = Path(path.lstrip("/"))
        # In a container the path is the host's, and its own cgroup is what it sees as the top.
        for part in dict.fromkeys((base / place, *(base / one for one in place.parents), base)):
            if ".." not in part.parts:
                yield from _cgroup(part, names, resident)


def _cgroup(folder: Path, names: tuple[str, str, str], resident: int) -> Iterator[Room]:
    limit, usage = (_number(folder / name) for name in names[:2])
    if limit is None or limit >= _UNLIMITED:
        return
    cache = _fields(folder / "memory.stat").get(names[2], 0)
    held = max(resident, (usage or 0) - cache)  # the kernel takes the cache of files back
    yield Room(limit - held, limit, "the memory limit of its cgroup")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):  # "max": no limit
        return None


def _fields(path: Path) -> dict[str, int]:
    """`Name:   123 kB` and `name 123` by their names, in bytes."""
    found: dict[str, int] = {}
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return found
    for line in lines:
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdigit():
            found[words[0]] = int(words[1]) * (1024 if words[-1] == "kB" else 1)
    return found
