"""A model's own files in its framework's session against the converted network in ONNX Runtime."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.shared import ROOT, needs_shared, shared

PYTHON = {
    "tensorflow": os.environ.get("CF_TENSORFLOW_PYTHON"),
    "mxnet": os.environ.get("CF_MXNET_PYTHON"),
}
RECORDINGS = ROOT / "tests" / "convert" / "recordings"
RETINAFACE = [
    f"face_rpn_{answer}_stride{stride}"
    for stride in (32, 16, 8)
    for answer in ("cls_prob_reshape", "bbox_pred", "landmark_pred")
]
pytestmark = pytest.mark.frameworks


def answers(
    runtime: str, folder: Path, files: list[Path], outputs: list[str], **batches: Any
) -> dict[str, Any]:
    """`<batch>/<output>` -> what the framework's session gives, in an environment of its own."""
    python = PYTHON[runtime]
    if not python:
        pytest.skip(f"CF_{runtime.upper()}_PYTHON names no Python with the framework in it")
    np.savez(folder / "in.npz", **batches)
    command = [python, "-m", "tests.frameworks.run_session", runtime, "--outputs", *outputs]
    command += ["--files", *(str(file) for file in files)]
    command += ["--batches", str(folder / "in.npz"), "--answers", str(folder / "out.npz")]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'engine'}"}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    with np.load(folder / "out.npz", allow_pickle=False) as result:
        return dict(result)


def prepared(out: Path, files: list[Path], entry: Mapping[str, Any]) -> Path:
    """The folder of the entry's model, its source kept, made as a user makes it."""
    spec = out / "spec.json"
    described: list[dict[str, Any]] = [
        {"path": file.name, "sha256": None, "sources": []} for file in files
    ]
    spec.write_text(json.dumps({**entry, "files": described}))
    command = [sys.executable, "-m", "compreface_convert", "prepare", "--keep-source"]
    command += ["--spec", str(spec), "--out", str(out / "models"), "--models-source"]
    command += [str(file) for file in files]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "engine")}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out / "models" / str(entry["name"])


def source_of(model: Path) -> list[Path]:
    described = json.loads((model / "model.json").read_text())
    return [model / "source" / file["name"] for file in described["source"]["files"]]


def assert_alike(
    result: Mapping[str, Any], model: Path, batches: Mapping[str, Any], tolerance: float
) -> None:
    """Each output of each batch is within `tolerance` of its largest value."""
    session = OnnxSession(model / "model.onnx", threads=1)
    compared = 0
    for name, batch in batches.items():
        for output, expected in zip(session.outputs, session.run({"input": batch}), strict=True):
            value = result[f"{name}/{output}"]
            assert value.shape == expected.shape
            largest = max(1.0, float(np.abs(expected).max()))
            assert np.abs(value - expected).max() / largest < tolerance, (name, output)
            compared += 1
    assert compared == len(result)


def noise(*shape: int, low: float = 0.0, high: float = 255.0) -> Any:
    return np.random.default_rng(4).uniform(low, high, shape).astype(np.float32)


def entry(name: str, form: str, size: int | None, role: str = "calculator") -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": name,
        "role": role,
        "format": form,
        "input": {"size": size, "layout": "nchw", "colour": "rgb", "mean": 0, "scale": 1},
    }
    if role == "calculator":
        described |= {"align": "arcface5", "similarity": [1.1, 6.0]}
    return described


def test_a_graph_with_a_queue_and_training_switches_runs_in_tensorflow(tmp_path: Path) -> None:
    graph = RECORDINGS / "sandberg_small.pb"
    model = prepared(tmp_path, [graph], entry("small", "tensorflow-graph", 35))
    batches = {"one": noise(1, 3, 35, 35, low=-2, high=2), "four": noise(4, 3, 35, 35, low=-2)}
    result = answers("tensorflow", tmp_path, source_of(model), ["embeddings"], **batches)
    assert_alike(result, model, batches, 1e-4)


def test_a_graph_of_other_names_runs_in_tensorflow(tmp_path: Path) -> None:
    graph = RECORDINGS / "small_frozen.pb"
    model = prepared(tmp_path, [graph], entry("small", "tensorflow-graph", 24))
    batches = {"one": noise(1, 3, 24, 24)}
    result = answers("tensorflow", tmp_path, source_of(model), ["Identity"], **batches)
    assert_alike(result, model, batches, 1e-4)


@needs_shared
def test_facenet_runs_in_tensorflow(tmp_path: Path) -> None:
    graph = shared("models", "facenet", "20180402-114759.pb")
    model = prepared(tmp_path, [graph], entry("facenet", "tensorflow-graph", 160))
    batches = {"three": noise(3, 3, 160, 160, low=-2, high=2)}
    result = answers("tensorflow", tmp_path, source_of(model), ["embeddings"], **batches)
    assert_alike(result, model, batches, 1e-4)


@needs_shared
def test_mobilefacenet_runs_in_mxnet(tmp_path: Path) -> None:
    folder = shared("models", "arcface_mobilefacenet")
    files = [folder / "model-symbol.json", folder / "model-0000.params"]
    model = prepared(tmp_path, files, entry("mobilefacenet", "mxnet", 112))
    batches = {"one": noise(1, 3, 112, 112), "three": noise(3, 3, 112, 112)}
    result = answers("mxnet", tmp_path, source_of(model), ["fc1"], **batches)
    assert_alike(result, model, batches, 1e-4)


@needs_shared
def test_retinaface_runs_in_mxnet_at_more_sizes_than_it_keeps(tmp_path: Path) -> None:
    folder = shared("models", "retinaface_mnet025")
    files = [folder / "mnet.25-symbol.json", folder / "mnet.25-0000.params"]
    model = prepared(tmp_path, files, entry("retinaface", "mxnet", None, "detector"))
    batches = {f"size_{side}": noise(1, 3, side, side + 31) for side in range(64, 224, 16)}
    result = answers("mxnet", tmp_path, source_of(model), RETINAFACE, **batches)
    assert_alike(result, model, batches, 1e-4)
