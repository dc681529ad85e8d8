"""What this host's processor is called and can do."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor: its model's name and its flags; no flags where the system does not list them."""

    name: str
    flags: frozenset[str]

    @property
    def multiplies_bfloat16(self) -> bool:
        """True where bfloat16 is computed, not emulated."""
        return bool(self.flags & _BFLOAT16)


def this_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """The first processor of the host."""
    found: dict[str, str] = {}
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip().lower(), value.strip())
    family = " ".join(found.get(key, "") for key in ("cpu family", "model", "stepping")).strip()
    name = found.get("model name") or found.get("cpu part") or platform.processor()
    name = name or platform.machine()
    flags = found.get("flags") or found.get("features") or ""
    return Cpu(
        f"{name or platform.machine()} ({family})" if family else name, frozenset(flags.split())
    )
