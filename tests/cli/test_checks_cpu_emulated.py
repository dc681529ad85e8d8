"""The table of CPU flags, proven on emulated processors: one that suffices, and older ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compreface_cli.runtimes import FLAGS
from tests.shared import ROOT

QEMU = shutil.which("qemu-x86_64")
MODELS = ROOT / "engine" / "compreface_engine" / "embedded_models"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 is absent (Debian: qemu-user)"),
]

# Imports what the engine imports, decodes, resizes, and runs both ends of the embedded build.
PROBE = """
import sys
import numpy, cv2, simplejpeg, onnxruntime
picture = numpy.zeros((64, 64, 3), numpy.uint8) + numpy.arange(64, dtype=numpy.uint8)[:, None, None]
picture = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(picture))
picture = cv2.resize(picture, (40, 40), interpolation=cv2.INTER_AREA)
picture = cv2.warpAffine(picture, numpy.eye(2, 3), (112, 112))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for name in ("mtcnn_pnet", "mobilefacenet192_fp16w"):
    session = onnxruntime.InferenceSession(f"{sys.argv[1]}/{name}.onnx", options)
    batch = picture.transpose(2, 0, 1)[None].astype(numpy.float32)
    output = session.run(None, {session.get_inputs()[0].name: batch})
    assert all(numpy.isfinite(part).all() for part in output)
print("ran")
"""
# qemu's names of the flags in /proc/cpuinfo that differ
_QEMU = {"pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "lahf_lm": "lahf-lm"}


def run(cpu: str, folder: Path) -> subprocess.CompletedProcess[str]:
    assert QEMU is not None
    return subprocess.run(
        [QEMU, "-cpu", cpu, sys.executable, "-c", PROBE, str(MODELS)],
        capture_output=True,
        text=True,
        cwd=folder,  # an illegal instruction may leave a core file
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("cpu", ["Nehalem", "Haswell"])
def test_the_engine_runs_on_a_processor_with_the_flags_of_the_table(
    cpu: str, tmp_path: Path
) -> None:
    done = run(cpu, tmp_path)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr[-2000:]


@pytest.mark.parametrize("cpu", ["qemu64", "Penryn"])
def test_the_engine_does_not_run_on_an_older_processor(cpu: str, tmp_path: Path) -> None:
    assert run(cpu, tmp_path).returncode != 0


@pytest.mark.parametrize("flag", sorted(FLAGS["onnxruntime"]))
def test_each_flag_of_the_table_is_needed(flag: str, tmp_path: Path) -> None:
    assert run(f"Nehalem,-{_QEMU.get(flag, flag)}", tmp_path).returncode != 0
