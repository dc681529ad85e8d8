"""The table of CPU flags, proven by the engine itself on emulated processors."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.facts.host import free_port
from compreface_cli.runtimes import FLAGS
from tests.shared import ROOT

QEMU = shutil.which("qemu-x86_64")
ANSWER = ROOT / "builds" / "answers" / "embedded.json"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 is absent (Debian: qemu-user)"),
]
# qemu's names of the flags that it does not call as /proc/cpuinfo does
_QEMU = {"pni": "sse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2", "lahf_lm": "lahf-lm"}


def _environment() -> dict[str, str]:
    """Ours, less what names OpenBLAS this machine's processor (OPENBLAS_CORETYPE)."""
    return {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}


@contextmanager
def engine(cpu: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The engine's process on that processor, and its port."""
    assert QEMU is not None
    port = free_port()
    variables = {
        "CF_PORT": str(port),
        "CF_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "engine"),
    }
    child = subprocess.Popen(
        [QEMU, "-cpu", cpu, sys.executable, "-m", "compreface_engine"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,  # an illegal instruction may leave a core file
        env=_environment() | variables,
    )
    with child:
        try:
            yield child, port
        finally:
            child.send_signal(signal.SIGTERM)


def scan(port: int, photograph: Path) -> Any:
    head = 'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = f"--x\r\n{head}".encode() + photograph.read_bytes() + b"\r\n--x--\r\n"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/find_faces?face_plugins=calculator",
        body,
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


@pytest.mark.parametrize("cpu", ["Nehalem", "Haswell"])
def test_the_engine_answers_rightly_on_a_processor_with_the_flags_of_the_table(
    cpu: str, tmp_path: Path
) -> None:
    known = json.loads(ANSWER.read_text())
    with engine(cpu, tmp_path) as (child, port):
        assert child.stderr is not None
        said = []
        for line in child.stderr:
            said.append(line)
            if "ready at" in line:
                break
        else:
            pytest.fail("the engine ended:\n" + "".join(said[-20:]))
        photograph = ROOT / "compreface_cli" / "portraits" / known["portrait"]
        [face] = scan(port, photograph)["result"]
        child.send_signal(signal.SIGTERM)
        for _ in child.stderr:
            pass
    assert child.returncode == 0
    cosine = sum(a * b for a, b in zip(face["embedding"], known["embedding"], strict=True))
    cosine /= math.hypot(*face["embedding"]) * math.hypot(*known["embedding"])
    assert cosine > 0.999


@pytest.mark.parametrize(
    "cpu",
    [
        "qemu64",
        "Penryn",
        *(f"Nehalem,-{_QEMU.get(flag, flag)}" for flag in sorted(FLAGS["onnxruntime"])),
    ],
)
def test_the_engine_does_not_start_without_one_of_the_flags(cpu: str, tmp_path: Path) -> None:
    with engine(cpu, tmp_path) as (child, _):
        assert child.stderr is not None
        said = child.stderr.read()
        child.wait()
    assert child.returncode != 0
    assert "Illegal instruction" in said or "X86_V2" in said
