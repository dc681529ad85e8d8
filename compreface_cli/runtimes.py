"""CPU flags: the table of what each runtime needs, with how it was measured.

Measured with Debian's qemu-x86_64 7.2 (user mode) and Python 3.11. For onnxruntime: NumPy 2.4.6,
OpenCV 5.0.0, simplejpeg 1.9.0 and ONNX Runtime 1.32.0 imported and used; both embedded nets run.
For tensorflow: TensorFlow 2.21.0 imported, and a convolution run.

    -cpu                        onnxruntime                     tensorflow
    qemu64, core2duo, Conroe    illegal instruction in NumPy    not tried
    Penryn                      NumPy refuses: needs X86_V2     not tried
    Nehalem, Westmere           runs, without AVX               illegal instruction
    SandyBridge, IvyBridge      runs                            runs
    Haswell, EPYC               runs                            runs

Nehalem less any one of the seven flags of x86-64-v2 is refused by NumPy, or ends with an illegal
instruction.
MXNet was not measured: AVX2 is what upstream states for its builds.
`tests/cli/test_checks_cpu_emulated.py` repeats it for onnxruntime with the whole engine.
"""

from __future__ import annotations

from collections.abc import Mapping

# Names of /proc/cpuinfo; `pni` is SSE3. Together they are the level x86-64-v2.
_V2 = frozenset({"pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16", "lahf_lm"})

FLAGS: Mapping[str, frozenset[str]] = {
    "onnxruntime": _V2,
    "tensorflow": _V2 | {"avx"},
    "mxnet": _V2 | {"avx", "avx2"},
}


def needed(runtime: str, architecture: str = "amd64") -> tuple[str, ...]:
    """The flags that a runtime needs there, sorted; none on ARM, whose wheels have no levels."""
    return tuple(sorted(FLAGS[runtime])) if architecture == "amd64" else ()
