"""Each row of pinned requirements can be installed: all packages are there, with these hashes."""

from __future__ import annotations

import importlib.metadata
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
    command += ["--system-certs"]  # as pip does
    command += ["--target", str(folder)]
    command += ["-r", str(ROOT / "engine" / "requirements" / f"{row}.txt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^ \+ ([^=\s]+)==(\S+)", done.stdout + done.stderr, re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_a_row_resolves_to_the_runtime_of_the_wheel_table(row: str, tmp_path: Path) -> None:
    found = _resolved(row, tmp_path)
    for name, version in ROWS[row].items():
        assert re.match(version, found.get(name, "absent")), (name, found.get(name))
    assert len([name for name in found if name.startswith("onnxruntime")]) == 1


def _pins(path: Path) -> dict[str, set[str]]:
    """name -> extras, as pinned in a requirements file."""
    found = re.findall(r"^([a-z0-9-]+)(?:\[([a-z0-9,-]+)\])?==", path.read_text(), re.MULTILINE)
    return {name: set(extras.split(",")) - {""} for name, extras in found}


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


@pytest.mark.parametrize("path", ["requirements/dev.txt", "requirements/cli.txt"])
def test_what_a_package_asks_for_with_an_extra_is_pinned_with_it(path: str) -> None:
    # pip looks at name[extra] before name: without a pin of its own it takes the newest release,
    # whose hash is not listed, and installs fail on the day that one is published.
    pins = _pins(ROOT / path)
    asked = 0
    for name in pins:
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # for another platform
            continue
        for need in needs:
            match = re.match(r"([A-Za-z0-9._-]+)\s*\[([^\]]+)\]", need)
            if match is None or "extra ==" in need or _name(match[1]) not in pins:
                continue
            asked += 1
            wanted = {_name(extra.strip()) for extra in match[2].split(",")}
            assert wanted <= pins[_name(match[1])], (name, need)
    assert asked or path.endswith("cli.txt")


@pytest.mark.parametrize("row", ROWS)
def test_what_a_row_asks_for_with_an_extra_is_pinned_with_it(row: str) -> None:
    folder = ROOT / "engine" / "requirements"
    written = (folder / f"{row}.in").read_text() + (folder / "serve.in").read_text()
    pins = _pins(folder / f"{row}.txt")
    for name, extras in re.findall(r"^([a-z0-9-]+)\[([a-z0-9, -]+)\]", written, re.MULTILINE):
        assert {extra.strip() for extra in extras.split(",")} <= pins[name], (row, name)
    assert pins["opentelemetry-exporter-http-transport"] == {"requests"}  # asked for by another
