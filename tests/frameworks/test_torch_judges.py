"""PyTorch makes the recordings again and judges fresh conversions (`make test-torch`)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compreface_convert.graphdef import read_graphdef
from compreface_convert.proof import run_onnx
from compreface_convert.pytorch import read_pytorch, read_state_dict
from compreface_engine.models.inputs import InputSpec
from tests.convert import torch_files
from tests.convert.facenet_names import state_dict
from tests.convert.test_pytorch import ARRAYS
from tests.convert.test_recorded import as_onnx, recorded
from tests.frameworks import torch_weights
from tests.frameworks.test_tensorflow_judges import arrays
from tests.shared import ROOT, SHARED, needs_shared, shared

PYTHON = os.environ.get("CF_TORCH_PYTHON")
pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(not PYTHON, reason="CF_TORCH_PYTHON names no Python with PyTorch in it"),
]
FORMATS = pytest.mark.parametrize("old", [False, True], ids=["zip", "older"])


def crops() -> Any:
    """FaceNet's input [2, 3, 160, 160] for two faces."""
    return InputSpec(torch_weights.SIZE).tensor(recorded("crops.npz")["facenet_u8"])


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and numbers made just now by PyTorch, in a process and an environment of its own."""
    out, own = tmp_path_factory.mktemp("torch"), tmp_path_factory.mktemp("own")
    for old in (False, True):
        (own / f"own{'_old' * old}.pt").write_bytes(torch_files.saved(ARRAYS, old=old))
    (own / "wrapped.pt").write_bytes(torch_files.saved(ARRAYS, wrapped=True))
    command = [PYTHON or "", "-m", "tests.frameworks.torch_recordings", "--out", str(out)]
    command += ["--reread", *map(str, sorted(own.iterdir()))]
    if SHARED is not None:
        data = shared("models", "facenet", "20180402-114759.pb").read_bytes()
        graph = read_graphdef(data, inputs=("input",), outputs=("embeddings",))
        (own / "facenet.pt").write_bytes(torch_files.saved(state_dict(graph.constants)))
        np.savez(own / "crops.npz", crops=crops())
        command += ["--facenet", str(own / "facenet.pt"), "--crops", str(own / "crops.npz")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def test_the_committed_values_are_what_pytorch_gives(fresh: Path) -> None:
    made, kept = arrays(fresh / "torch_small.npz"), recorded("torch_small.npz")
    assert made.keys() == kept.keys()
    assert all(np.array_equal(value, kept[key]) for key, value in made.items())


def test_the_committed_embeddings_are_what_pytorch_gives(fresh: Path) -> None:
    made, kept = arrays(fresh / "torch_facenet.npz"), recorded("torch_facenet.npz")
    for key in ("names", "shapes"):
        assert np.array_equal(made[key], kept[key])
    assert np.abs(made["embeddings"] - kept["embeddings"]).max() < 1e-6


@FORMATS
@pytest.mark.parametrize("name", ["module", "odd", "training", "parameters"])
def test_a_file_saved_just_now_has_its_values(fresh: Path, name: str, old: bool) -> None:
    result = read_state_dict((fresh / f"torch_{name}{'_old' * old}.pt").read_bytes())
    every = arrays(fresh / "torch_small.npz").items()
    expected = {key.partition("/")[2]: a for key, a in every if key.startswith(f"{name}/")}
    assert result.keys() == expected.keys()
    assert all(np.array_equal(result[key], array) for key, array in expected.items())


@pytest.mark.parametrize("name", ["own", "own_old", "wrapped"])
def test_pytorch_reads_what_the_tests_write(fresh: Path, name: str) -> None:
    result = arrays(fresh / f"{name}.npz")
    assert result.keys() == ARRAYS.keys()
    assert all(np.array_equal(result[key], array) for key, array in ARRAYS.items())


@needs_shared
def test_facenet_gives_what_pytorch_gives(fresh: Path) -> None:
    data = shared("models", "facenet", "20180402-114759.pb").read_bytes()
    graph = read_graphdef(data, inputs=("input",), outputs=("embeddings",))
    made = read_pytorch(torch_files.saved(state_dict(graph.constants)), "inception_resnet_v1")
    (result,) = run_onnx(as_onnx(made, torch_weights.SIZE), crops(), ["embeddings"])
    worst = float(np.abs(result - arrays(fresh / "facenet.npz")["crops"]).max())
    print(f"FaceNet: largest difference from PyTorch {worst:.2g}")
    assert worst < 1e-6
