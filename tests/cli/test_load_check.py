"""A network that its plugin cannot run is refused before an engine starts, and told by name."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from tests.cli.local_cf import LocalCf
from tests.cli.names import assert_named
from tests.cli.test_up_own_model import NETWORK

pytestmark = pytest.mark.slow

DIGEST = hashlib.sha256(NETWORK.read_bytes()).hexdigest()
BUILD = f"""\
schema: 1
name: wrong
detector: DETECTOR
calculator: embedded.Calculator@mobilefacenet192
plugins: [PLUGIN]
models:
  - name: mine
    role: ROLE
    format: onnx
    files: [{{path: mine.onnx, sha256: {DIGEST}}}]
    input: {{size: 112, mean: 127.5, scale: 128}}
"""
MTCNN, POSE = "embedded.FaceDetector@mtcnn", "facenet.PoseEstimator"


def _up(cf: LocalCf, detector: str, plugin: str, role: str) -> dict[str, str]:
    """The error of `cf up` for a build that takes the calculator's network for another plugin."""
    shutil.copy(NETWORK, cf.root / "mine.onnx")
    build = cf.root / "wrong.yaml"
    text = BUILD.replace("DETECTOR", detector).replace("PLUGIN", plugin).replace("ROLE", role)
    build.write_text(text)
    flags = ("up", str(build), "--launcher", "process", "--port", "auto")
    error: dict[str, str] = cf.json(*flags, exit_code=9)["error"]
    assert (cf.processes(), cf.files()) == ([], [])
    return error


def test_a_calculator_given_as_a_detector_is_refused_before_the_start(local_cf: LocalCf) -> None:
    error = _up(local_cf, "scrfd.FaceDetector@mine", POSE, "detector")
    assert "scrfd.FaceDetector@mine" in error["message"]
    assert_named(error["hint"], "mine.onnx", "scrfd.FaceDetector@mine")


def test_a_calculator_given_as_an_analyzer_is_refused_before_the_start(local_cf: LocalCf) -> None:
    error = _up(local_cf, MTCNN, "genderage.AgeDetector@mine", "analyzer")
    assert_named(error["message"], 192)
    assert_named(error["hint"], "mine.onnx", "genderage.AgeDetector@mine")
