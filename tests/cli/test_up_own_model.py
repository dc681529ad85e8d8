"""A user's own ONNX model from a build file: its hash is asked for once, and it never changes."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from tests.cli.local_cf import LocalCf
from tests.shared import ROOT

pytestmark = pytest.mark.slow

NETWORK = ROOT / "engine/compreface_engine/embedded_models/mobilefacenet192_fp16w.onnx"
BUILD = """\
schema: 1
name: my-build
summary: A model of our own
runtime: onnxruntime
device: cpu
detector: embedded.FaceDetector@mtcnn
calculator: custom.Calculator@my-model
plugins: [facenet.LandmarksDetector]
base_image: null
limits: {max_detect_size: 640, max_concurrency: null, max_wait_s: 10}
models:
  - name: my-model
    role: calculator
    format: onnx
    files: [{path: my-model.onnx, sha256: HASH, sources: []}]
    input: {size: 112, layout: nchw, colour: rgb, mean: 127.5, scale: 128}
    align: arcface5
    similarity: [1.10, 6.0]
facts:
  accuracy: []
  licence: {weights: "ours", commercial: allowed}
"""


def _write(folder: Path, digest: str = "null") -> str:
    (folder / "my-build.yaml").write_text(BUILD.replace("HASH", digest))
    return str(folder / "my-build.yaml")


def test_a_users_model_runs_once_its_hash_is_accepted(local_cf: LocalCf) -> None:
    build = _write(local_cf.root)
    model = local_cf.root / "my-model.onnx"
    shutil.copy(NETWORK, model)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    flags = ("up", build, "--launcher", "process", "--port", "auto")

    refused = local_cf.json(*flags, exit_code=9)["error"]
    assert digest in refused["message"] + refused["hint"]
    assert "--accept-hash" in refused["hint"]
    assert (local_cf.processes(), local_cf.files()) == ([], [])

    up = local_cf.json(*flags, "--accept-hash", f"my-model={digest}")
    assert (up["instance"], up["calculator"]) == ("my-build", "custom.Calculator@my-model")
    assert up["proof"]["cosine"] >= 0.999
    assert local_cf.json(*flags)["change"] == "already running"


def test_another_colour_and_another_file_under_the_same_name_are_refused(local_cf: LocalCf) -> None:
    model = local_cf.root / "my-model.onnx"
    shutil.copy(NETWORK, model)
    build = _write(local_cf.root, hashlib.sha256(model.read_bytes()).hexdigest())
    flags = ("up", build, "--launcher", "process", "--port", "auto")
    first = local_cf.json(*flags)

    Path(build).write_text(Path(build).read_text().replace("colour: rgb", "colour: bgr"))
    error = local_cf.json(*flags, exit_code=5)["error"]
    assert "input.colour: rgb -> bgr" in error["message"]

    _turn_the_embedding_round(model)
    build = _write(local_cf.root, hashlib.sha256(model.read_bytes()).hexdigest())
    error = local_cf.json(*flags, exit_code=5)["error"]
    assert "custom.Calculator@my-model" in error["message"]
    status = local_cf.status("my-build")
    assert (status["state"], status["services"][0]["pid"]) == (
        "running",
        first["services"][0]["pid"],
    )


def _turn_the_embedding_round(path: Path) -> None:
    """A network of the same shape whose embeddings point elsewhere."""
    network = onnx.load(path)
    last = next(node for node in reversed(network.graph.node) if node.op_type in ("Conv", "Gemm"))
    by_output = {node.output[0]: node for node in network.graph.node}
    for name in last.input[1:]:
        source = by_output[name].input[0] if name in by_output else name
        (held,) = (one for one in network.graph.initializer if one.name == source)
        held.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(held), held.name))
    onnx.save(network, path)
