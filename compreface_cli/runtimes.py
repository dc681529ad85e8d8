"""The runtimes that a build may name, read from the engine's table: packages, CPU flags, memory.

Measured with Debian's qemu-x86_64 7.2 (user mode) and Python 3.11. For onnxruntime: NumPy 2.4.6,
OpenCV 5.0.0, simplejpeg 1.9.0 and ONNX Runtime 1.32.0 imported and used; both embedded nets run.
For tensorflow: TensorFlow 2.21.0 imported, and a convolution run. For openvino: OpenVINO 2026.4
imported, an embedded net compiled and run.

    -cpu                        onnxruntime                     tensorflow            openvino
    qemu64, core2duo, Conroe    illegal instruction in NumPy    not tried             not tried
    Penryn                      NumPy refuses: needs X86_V2     not tried             not tried
    Nehalem, Westmere           runs, without AVX               illegal instruction   the same
    SandyBridge, IvyBridge      runs                            runs                  runs
    Haswell, EPYC               runs                            runs                  runs

On Nehalem without any one of the seven flags of x86-64-v2, NumPy refuses to load or ends with an
illegal instruction.
MXNet was not measured: AVX2 is what upstream states for its builds.
`tests/cli/test_checks_cpu_emulated.py` repeats this for onnxruntime with the whole engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compreface_cli import resources

AUTO = "auto"
REFERENCE = "onnxruntime"  # accuracy is measured against it; every set of requirements has it

# As in /proc/cpuinfo (`pni` is SSE3): the level x86-64-v2, which NumPy needs.
_V2 = frozenset({"pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "lahf_lm"})
_BASE = "python:3.11-slim-bookworm"
# Of this, 1 GiB is for pictures and request bodies. Peak memory of a container's cgroup, file cache
# included: FaceNet with `auto`, which measures and compiles with OpenVINO, 683 MiB; with ONNX
# Runtime 420 MB after many scans; embedded 295 MB. Rows for frameworks set more: TensorFlow alone
# takes 2.1 GB for FaceNet (docs/performance.md).
_MEMORY_LIMIT = "2048m"


@dataclass(frozen=True, slots=True)
class Runtime:
    """A row of the engine's table of runtimes (`runtimes.json`).

    `wheels`: its set of the engine's requirements on a CPU; `gpu_wheels`: those on a GPU, the
    default first, none if it runs on a CPU only. `precisions`: those of converted networks.
    `measured`: the engine compares its results with the reference on the serving machine.
    `format`: source files that it runs as they are, which a prepared model must keep; every other
    network of its build runs converted, in ONNX Runtime. `newest_python`: the last (major, minor)
    that its pinned packages have wheels for; None if `cf` itself supports none newer.
    """

    title: str
    wheels: str
    gpu_wheels: tuple[str, ...]
    flags: frozenset[str]
    precisions: tuple[str, ...]
    measured: bool
    format: str | None
    newest_python: tuple[int, int] | None
    memory_limit: str  # of the engine's container on a CPU
    base_image: str = _BASE  # for a GPU too: CUDA and cuDNN come as wheels


def _read(table: Path) -> dict[str, Runtime]:
    rows: Mapping[str, Mapping[str, Any]] = json.loads(table.read_bytes())
    any_precision = tuple({p: 0 for row in rows.values() for p in row.get("precisions", ())})
    runtimes = {}
    for name, row in rows.items():
        precisions = any_precision if name == AUTO else tuple(row.get("precisions", ()))
        newest = row.get("newest_python")
        runtimes[name] = Runtime(
            title=row.get("title", name),
            wheels=row["requirements"],
            gpu_wheels=tuple(row.get("gpu_requirements", ())),
            flags=_V2 | set(row.get("cpu_flags", ())),
            precisions=precisions,
            measured=bool(precisions) and name != REFERENCE,
            format=row.get("format"),
            newest_python=None if newest is None else (newest[0], newest[1]),
            memory_limit=row.get("memory_limit", _MEMORY_LIMIT),
        )
    return runtimes


RUNTIMES: Mapping[str, Runtime] = _read(resources.engine_table("runtimes"))
FLAGS: Mapping[str, frozenset[str]] = {name: row.flags for name, row in RUNTIMES.items()}


def joined(words: Iterable[str], last: str) -> str:
    """`a, b or c`, with `or` as the `last`."""
    *rest, end = words
    return f"{', '.join(rest)} {last} {end}" if rest else end


# The runtimes that `auto` measures on the serving machine, in a subprocess, to choose the fastest;
# the reference is used if that subprocess ends with an illegal instruction.
AUTO_MEASURES = joined(
    (row.title for name, row in RUNTIMES.items() if row.precisions and name != AUTO), "and"
)
BF16 = tuple(name for name, row in RUNTIMES.items() if "bf16" in row.precisions)
BF16_IS_FOR = f"for a CPU and the runtimes {joined(BF16, 'and')}"


def bf16_fault(runtime: str, device: str) -> str:
    """The key and value of a build that conflict with precision bf16; empty if none does."""
    if device == "cuda":
        return "device: cuda"
    return "" if runtime in BF16 else f"runtime: {runtime}"


def needed(runtime: str, architecture: str = "amd64") -> tuple[str, ...]:
    """The CPU flags that a runtime needs, sorted; none on ARM, whose wheels have no levels."""
    return tuple(sorted(FLAGS[runtime])) if architecture == "amd64" else ()
