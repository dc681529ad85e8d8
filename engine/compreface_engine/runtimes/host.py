"""The name and the flags of this host's processor."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor: its model name and flags; no flags where the system does not list them."""

    name: str
    flags: frozenset[str]

    @property
    def multiplies_bfloat16(self) -> bool:
        """True where bfloat16 is computed, not emulated."""
        return bool(self.flags & _BFLOAT16)


def this_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """The first processor of the host."""
    fields: dict[str, str] = {}
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    family = " ".join(fields.get(key, "") for key in ("cpu family", "model", "stepping")).strip()
    name = fields.get("model name") or fields.get("cpu part") or platform.processor()
    name = name or platform.machine()
    flags = fields.get("flags") or fields.get("features") or ""
    return Cpu(
        f"{name or platform.machine()} ({family})" if family else name, frozenset(flags.split())
    )
