"""CPU flags: the table of what each runtime needs, with how it was measured, and its check.

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
`tests/cli/test_checks_cpu_emulated.py` repeats the measurement for onnxruntime.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compreface_cli.checks.base import HARDWARE, Finding, Own, fail, ok, warn
from compreface_cli.facts import Facts
from compreface_cli.plan import Plan

NAME = "cpu"

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


def check(plan: Plan, facts: Facts, own: Own) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher != "process" and docker is not None and docker.reachable and not docker.local:
        if docker.architecture == "amd64":
            yield warn(
                NAME,
                "the Docker engine is on another host, whose CPU flags are not known",
                "There, `grep -m1 flags /proc/cpuinfo` must name "
                f"{' '.join(needed(plan.runtime))}.",
            )
        return
    yield judge(facts.host.cpu_flags, plan.runtime, facts.host.architecture)


def judge(flags: frozenset[str] | None, runtime: str, architecture: str) -> Finding:
    wanted = needed(runtime, architecture)
    if not wanted:
        return ok(NAME, f"{runtime} needs no special flags on {architecture}")
    if flags is None:
        return warn(NAME, f"the CPU flags cannot be read here; {runtime} needs {' '.join(wanted)}")
    lacking = [name for name in wanted if name not in flags]
    if not lacking:
        return ok(NAME, f"every flag that {runtime} needs ({' '.join(wanted)})")
    return fail(
        NAME,
        HARDWARE,
        f"this CPU lacks {' '.join(lacking)}, which {runtime} needs: "
        "it would end with an illegal instruction",
        "Use a machine with a newer CPU. In a virtual machine, pass the host's CPU model through "
        "(QEMU: -cpu host).",
    )
