"""A build whose model comes from a server of the test, and `cf` at a terminal."""

from __future__ import annotations

import hashlib
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.local_cf import PATIENCE_S, LocalCf
from tests.shared import ROOT

NETWORK = ROOT / "engine/compreface_engine/embedded_models/mobilefacenet192_fp16w.onnx"
WEIGHTS = NETWORK.read_bytes()
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
TERMS = "{weights: research only, commercial: excluded, reason: its publisher says so}"
_BUILD = """\
schema: 1
name: mine
detector: embedded.FaceDetector@mtcnn
calculator: custom.Calculator@my-model
plugins: []
models:
  - name: my-model
    role: calculator
    format: onnx
    files: [{path: own/my-model.onnx, sha256: SHA, sources: [URL]}]
    input: {size: 112, layout: nchw, colour: rgb, mean: 127.5, scale: 128}
    align: arcface5
    similarity: [1.10, 6.0]
"""


def write(folder: Path, url: str, terms: str = TERMS, sha256: str = DIGEST) -> str:
    """The path of the build file `mine`, whose one model `my-model` has the source `url`."""
    text = _BUILD.replace("URL", url).replace("SHA", sha256)
    path = folder / "mine.yaml"
    path.write_text(text + (f"facts:\n  licence: {terms}\n" if terms else ""))
    return str(path)


def at_a_terminal(cf: LocalCf, *arguments: str, typed: str, question: str) -> tuple[int, str]:
    """Exit code and terminal of a `cf` that is answered `typed` when it has put the question."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "compreface_cli.cli", *arguments],
        cwd=cf.root,
        env=cf.env,
        stdin=end,
        stdout=subprocess.DEVNULL,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    seen, deadline, answered = b"", time.monotonic() + PATIENCE_S, False
    while time.monotonic() < deadline:
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # how a terminal ends
            break
        if not answered and question.encode() in seen:
            os.write(terminal, typed.encode())
            answered = True
    os.close(terminal)
    return process.wait(timeout=30), seen.decode()


def add_optional(build: str) -> None:
    """Add a plugin with a fallback, whose model `years` no source delivers."""
    path = Path(build)
    text = path.read_text().replace(
        "plugins: []\n",
        "plugins: [genderage.AgeDetector@years]\n"
        "fallbacks: {genderage.AgeDetector@years: embedded.AgeDetector}\n",
    )
    entry = f"""\
  - name: years
    role: analyzer
    format: onnx
    files: [{{path: own/years.onnx, sha256: {DIGEST}, sources: ["http://127.0.0.1:9/y.onnx"]}}]
    input: {{size: 96, mean: 0, scale: 1}}
"""
    path.write_text(text.replace("models:\n", f"models:\n{entry}"))
