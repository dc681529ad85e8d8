"""TensorFlow makes the recordings again and judges fresh conversions (`make test-frameworks`)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compreface_convert.evaluate import run
from compreface_convert.graphdef import read_graphdef
from compreface_convert.proof import run_onnx
from compreface_convert.tflite import read_tflite
from tests.convert.test_recorded import RECORDINGS, as_onnx, nchw, recorded
from tests.shared import ROOT, SHARED, needs_shared, shared

PYTHON = os.environ.get("CF_TENSORFLOW_PYTHON")
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        not PYTHON, reason="CF_TENSORFLOW_PYTHON names no Python with TensorFlow in it"
    ),
]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings made just now by TensorFlow, in a process and an environment of its own."""
    out = tmp_path_factory.mktemp("recordings")
    command = [PYTHON or "", "-m", "tests.frameworks.tensorflow_recordings", "--out", str(out)]
    if SHARED is not None:
        command += ["--facenet", str(shared("models", "facenet", "20180402-114759.pb"))]
        command += ["--tflite", str(shared("models", "embedded"))]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as result:
        return dict(result)


@pytest.mark.parametrize(
    "name", ["sandberg_small.npz", "small.npz", "small_halves.npz", "small_frozen.npz"]
)
def test_the_committed_recordings_are_what_tensorflow_gives(fresh: Path, name: str) -> None:
    assert_equal(arrays(fresh / name), recorded(name))


@needs_shared
@pytest.mark.parametrize("name", ["facenet_tensorflow.npz", "tflite_interpreter.npz"])
def test_the_committed_recordings_of_real_networks_are_what_tensorflow_gives(
    fresh: Path, name: str
) -> None:
    assert_equal(arrays(fresh / name), recorded(name))


def assert_equal(made: dict[str, Any], kept: dict[str, Any]) -> None:
    assert made.keys() == kept.keys()
    for key, value in made.items():
        scale = max(1.0, float(np.abs(kept[key]).max()))
        assert np.abs(value - kept[key]).max() < 1e-5 * scale, key


def test_a_graph_frozen_just_now_converts_to_the_same_numbers(fresh: Path) -> None:
    data = (fresh / "sandberg_small.pb").read_bytes()
    graph = read_graphdef(data, inputs=("input",), outputs=("embeddings",))
    result = arrays(fresh / "sandberg_small.npz")
    (judged,) = run(graph, {"input": result["input_nhwc"]})
    (converted,) = run_onnx(as_onnx(graph, 35), nchw(result["input_nhwc"]), ["embeddings"])
    assert np.abs(judged - result["embeddings"]).max() < 1e-6
    assert np.abs(converted - result["embeddings"]).max() < 1e-6


@pytest.mark.parametrize("name", ["small.tflite", "small_halves.tflite", "small_frozen.pb"])
def test_a_small_network_saved_just_now_converts_to_the_same_numbers(
    fresh: Path, name: str
) -> None:
    read = read_graphdef if name.endswith(".pb") else read_tflite
    graph = read((fresh / name).read_bytes())
    result = arrays(fresh / f"{Path(name).stem}.npz")
    (converted,) = run_onnx(as_onnx(graph, 24), nchw(result["input_nhwc"]), ["embeddings"])
    assert np.abs(converted - result["output"]).max() < 1e-6


def test_the_fixtures_hold_what_makes_published_graphs_hard() -> None:
    data = (RECORDINGS / "sandberg_small.pb").read_bytes()
    graph = read_graphdef(data, inputs=("input",), outputs=("embeddings",))
    result = {node.op for node in graph.nodes.values()}
    assert {"Switch", "Merge", "Rsqrt", "FusedBatchNormV3", "RandomUniform", "Shape"} <= result
    assert "QueueDequeueUpToV2" in result
