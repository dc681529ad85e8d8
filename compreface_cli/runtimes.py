"""The table of runtimes: what each needs of a CPU, which packages, upon which image.

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

Nehalem less any one of the seven flags of x86-64-v2 is refused by NumPy, or ends with an illegal
instruction.
MXNet was not measured: AVX2 is what upstream states for its builds.
`tests/cli/test_checks_cpu_emulated.py` repeats it for onnxruntime with the whole engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# What the engine takes, of which 1 GiB is for pictures and bodies. Highest memory of a container's
# cgroup from the start on, the cache of files included: FaceNet with `auto`, which measures and
# compiles with OpenVINO, 683 MiB; its ONNX Runtime 420 MB after many scans; embedded 295 MB.
_WITH_FRAMEWORK = "4096m"  # TensorFlow alone takes 2.1 GB for FaceNet (docs/performance.md)

# Names of /proc/cpuinfo; `pni` is SSE3. Together they are the level x86-64-v2.
_V2 = frozenset({"pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "lahf_lm"})
_BASE = "python:3.11-slim-bookworm"


@dataclass(frozen=True, slots=True)
class Runtime:
    """One runtime. `wheels` is the engine's set of requirements for it on a CPU.

    `formats`: sources that it loads itself, which the prepared model must keep; every other network
    of its build runs as ONNX in ONNX Runtime. `newest_python`: the last
    (major, minor) that its pinned packages have wheels for, where `cf` itself runs with newer ones.
    """

    wheels: Literal["cpu", "openvino", "tensorflow", "mxnet"]
    flags: frozenset[str] = _V2
    gpu: bool = False
    formats: tuple[str, ...] = ()
    newest_python: tuple[int, int] | None = None
    memory_limit: str = "2048m"  # of the engine's container on a CPU
    base_image: str = _BASE  # wheels bring CUDA and cuDNN, so a GPU needs no other

    def loads(self, format: str) -> bool:
        return format in self.formats


RUNTIMES: Mapping[str, Runtime] = {
    # `auto` measures ONNX Runtime and OpenVINO where it serves, in a process of its own, and takes
    # the faster; where that ends with an illegal instruction, ONNX Runtime is left.
    "auto": Runtime("openvino", gpu=True),
    "onnxruntime": Runtime("cpu", gpu=True),
    "openvino": Runtime("openvino", _V2 | {"avx"}),
    "tensorflow": Runtime(
        "tensorflow",
        _V2 | {"avx"},
        formats=("tensorflow-graph",),
        newest_python=(3, 13),
        memory_limit=_WITH_FRAMEWORK,
    ),
    # NumPy 1.23 is the last that it imports with.
    "mxnet": Runtime(
        "mxnet",
        _V2 | {"avx", "avx2"},
        formats=("mxnet",),
        newest_python=(3, 11),
        memory_limit=_WITH_FRAMEWORK,
    ),
}
FLAGS: Mapping[str, frozenset[str]] = {name: row.flags for name, row in RUNTIMES.items()}


def bf16_fault(runtime: str, device: str) -> str:
    """The key of a build that precision bf16 does not go with, with its value; else nothing."""
    if device == "cuda":
        return "device: cuda"
    return "" if runtime in ("auto", "openvino") else f"runtime: {runtime}"


def needed(runtime: str, architecture: str = "amd64") -> tuple[str, ...]:
    """The flags that a runtime needs there, sorted; none on ARM, whose wheels have no levels."""
    return tuple(sorted(FLAGS[runtime])) if architecture == "amd64" else ()
