"""The processor of this host: its architecture, and the flags that runtimes look for."""

from __future__ import annotations

import os
from pathlib import Path

# The kernel's names of architectures -> Docker's.
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def architecture(machine: str = "") -> str:
    """Docker's name of a machine's architecture (default: this machine): `amd64` for `x86_64`.

    An unknown name is returned unchanged.
    """
    name = (machine or os.uname().machine).lower()
    return _ARCHITECTURES.get(name, name)


def flags(
    cpuinfo: Path = Path("/proc/cpuinfo"), *, every_core: bool = True
) -> frozenset[str] | None:
    """The flags that every core has (`Features` on ARM); None if the system does not report them.

    With `every_core` false, those of the first core, which is faster with many cores.
    """
    rows: list[frozenset[str]] = []
    try:
        with cpuinfo.open(errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() in ("flags", "Features"):
                    rows.append(frozenset(value.split()))
                    if not every_core:
                        break
    except OSError:
        return None
    return frozenset.intersection(*rows) if rows else None
