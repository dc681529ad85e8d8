"""The processor of this host: its architecture, and the flags that runtimes look for."""

from __future__ import annotations

import os
from pathlib import Path

# The machine's names for one and the same architecture, under Docker's name.
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def architecture(machine: str = "") -> str:
    """Docker's name of a machine, by default of this one: `amd64` for `x86_64`.

    Unknown names stay as they are.
    """
    name = (machine or os.uname().machine).lower()
    return _ARCHITECTURES.get(name, name)


def flags(
    cpuinfo: Path = Path("/proc/cpuinfo"), *, every_core: bool = True
) -> frozenset[str] | None:
    """The flags that every core has (`Features` on ARM), or None where the system does not say.

    With `every_core` false those of the first one, which is quicker where there are many.
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
