"""The memory limit of this process: the tightest of the cgroup's, ulimit's and the machine's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compreface_engine.core.errors import ConfigurationError

MEBIBYTE: Final = 1 << 20
VARIABLE: Final = "CF_MAX_MEMORY_BYTES"
ARENAS: Final = 112 * MEBIBYTE
ARENAS_PER_WORKER: Final = 8 * MEBIBYTE
"""By how much the arenas of the networks grow after the start, in all and for each worker.
Measured with ONNX Runtime: FaceNet 114 MB with two workers, 136 with eight; embedded 77 and 98."""
RETAINED: Final = 64 * MEBIBYTE
"""Freed memory that the process keeps: 32 MiB at the heap's end (`core.heap`), and a margin."""
_UNLIMITED: Final = 1 << 60  # cgroup v1 writes a number near 2**63 for no limit


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit of `size` bytes; the process may allocate `free` more. `source` is its name."""

    free: int
    size: int
    source: str


@dataclass(frozen=True, slots=True)
class MemoryShares:
    """The memory for request bodies and for pictures, in bytes; None where no limit is known."""

    bodies: int
    pictures: int | None
    limit: MemoryLimit | None

    def __str__(self) -> str:
        if self.limit is None or self.pictures is None:
            return "memory: no limit is known, pictures may use any amount"
        return (
            f"memory: {self.limit.size >> 20} MiB ({self.limit.source}), "
            f"{self.limit.free >> 20} MiB free; {self.pictures >> 20} MiB for pictures, "
            f"{self.bodies >> 20} MiB for request bodies"
        )


def shares(
    configured: int, *, bodies: int, body: int, workers: int, root: Path = Path("/")
) -> MemoryShares:
    """Divides the free memory between bodies and pictures, after all networks are loaded.

    `configured` is the limit of the whole process in bytes, 0 for the system's; `bodies` the most
    that bodies may hold, `body` the size of the largest, `workers` the number of computations at
    once. Raises ConfigurationError where the process already holds more than `configured`.
    """
    limit = tightest_limit(configured, root)
    if limit is None:
        return MemoryShares(bodies, None, None)
    if configured and limit.free <= 0:
        raise ConfigurationError(
            f"{VARIABLE}={configured}: the networks alone use {configured - limit.free} bytes; "
            "set a higher limit"
        )
    free = max(0, limit.free)
    bodies = min(bodies, max(body, free // 8))
    # Under a tight limit pictures get a quarter, however much the rest might need.
    left = free - bodies - ARENAS - workers * ARENAS_PER_WORKER - min(RETAINED, free // 8)
    return MemoryShares(bodies, max(left, free // 4, 16 * MEBIBYTE), limit)


def tightest_limit(configured: int, root: Path = Path("/")) -> MemoryLimit | None:
    """The configured limit, else the system's tightest; None where none is known."""
    status = _fields(root / "proc/self/status")
    resident = status.get("VmRSS", 0)
    if configured:
        return MemoryLimit(configured - resident, configured, VARIABLE)
    limits = [*_cgroups(root, resident), *_address_space(status.get("VmSize", 0)), *_machine(root)]
    return min(limits, key=lambda limit: limit.free, default=None)


def _machine(root: Path) -> Iterator[MemoryLimit]:
    memory = _fields(root / "proc/meminfo")
    if "MemAvailable" in memory and "MemTotal" in memory:
        yield MemoryLimit(memory["MemAvailable"], memory["MemTotal"], "this machine")


def _address_space(held: int) -> Iterator[MemoryLimit]:
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and held:
        yield MemoryLimit(limit - held, limit, "its address space, ulimit -v")


def _cgroups(root: Path, resident: int) -> Iterator[MemoryLimit]:
    """The limits of this process's cgroup and of its visible parents."""
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
        # In a container the path is the host's, and the container's cgroup is mounted as the root.
        parents = (base / parent for parent in place.parents)
        for part in dict.fromkeys((base / place, *parents, base)):
            if ".." not in part.parts:
                yield from _cgroup(part, names, resident)


def _cgroup(folder: Path, names: tuple[str, str, str], resident: int) -> Iterator[MemoryLimit]:
    limit, usage = (_number(folder / name) for name in names[:2])
    if limit is None or limit >= _UNLIMITED:
        return
    cache = _fields(folder / "memory.stat").get(names[2], 0)
    held = max(resident, (usage or 0) - cache)  # the kernel reclaims the page cache
    yield MemoryLimit(limit - held, limit, "the memory limit of its cgroup")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):  # "max": no limit
        return None


def _fields(path: Path) -> dict[str, int]:
    """The fields `Name:   123 kB` and `name 123` of a file by name, in bytes; {} without it."""
    fields: dict[str, int] = {}
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return fields
    for line in lines:
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdigit():
            fields[words[0]] = int(words[1]) * (1024 if words[-1] == "kB" else 1)
    return fields
