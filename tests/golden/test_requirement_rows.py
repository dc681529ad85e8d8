"""Each row of pinned requirements can be installed: all packages are there, with these hashes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import ROOT

ROWS = {
    # row: what it is for (the table of wheels, compute capabilities and drivers)
    "cpu": {"onnxruntime": r"1\.\d+"},
    "openvino": {"onnxruntime": r"1\.\d+", "openvino": r"20\d\d\."},
    "tensorflow": {"onnxruntime": r"1\.\d+", "tensorflow-cpu": r"2\."},
    "mxnet": {"onnxruntime": r"1\.\d+", "mxnet": r"1\.9\.1", "numpy": r"1\.23\."},
    "cuda13": {"onnxruntime-gpu": r"1\.(2[89]|[3-9]\d)", "nvidia-cudnn-cu13": r"9\."},
    "cuda12": {"onnxruntime-gpu": r"1\.26\.", "nvidia-cudnn-cu12": r"9\."},
    "cuda12-legacy": {"onnxruntime-gpu": r"1\.26\.", "nvidia-cudnn-cu12": r"9\.(\d|10)\."},
}


def _resolved(row: str, folder: Path) -> dict[str, str]:
    """name -> version of what an install of this row would bring on Linux x86_64, Python 3.11."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    assert uv is not None, "uv is one of the development requirements"
    command = [uv, "pip", "install", "--dry-run", "--only-binary", ":all:", "--require-hashes"]
    command += ["--python-platform", "x86_64-manylinux_2_28", "--python-version", "3.11"]
    command += ["--target", str(folder)]
    command += ["-r", str(ROOT / "engine" / "requirements" / f"{row}.txt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^ \+ ([^=\s]+)==(\S+)", done.stdout + done.stderr, re.MULTILINE))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_resolves_to_the_runtime_of_the_wheel_table(row: str, tmp_path: Path) -> None:
    found = _resolved(row, tmp_path)
    for name, version in ROWS[row].items():
        assert re.match(version, found.get(name, "absent")), (name, found.get(name))
    assert len([name for name in found if name.startswith("onnxruntime")]) == 1
