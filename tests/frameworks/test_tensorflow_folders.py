"""TensorFlow makes checkpoints and SavedModels just now and judges what becomes of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compreface_convert.checkpoint import NETWORKS, read_checkpoint
from compreface_convert.proof import run_onnx
from compreface_convert.saved_model import read_saved_model
from tests.convert.test_checkpoint import files
from tests.convert.test_recorded import as_onnx, nchw, recorded
from tests.frameworks import seeded
from tests.frameworks.test_tensorflow_judges import PYTHON, arrays, assert_equal
from tests.shared import ROOT

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.skipif(
        not PYTHON, reason="CF_TENSORFLOW_PYTHON names no Python with TensorFlow in it"
    ),
]
MODELS = [
    f"{keras}_{size}"
    for keras in ("keras2", "keras3")
    for size in ("small", "mask", "small_export", "mask_export")
    if not (keras == "keras2" and size.endswith("export"))
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders and TensorFlow's answers, from a process and an environment of its own."""
    out = tmp_path_factory.mktemp("folders")
    command = [PYTHON or "", "-m", "tests.frameworks.tensorflow_folders", "--large"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "--out", str(out)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def difference(result: Any, expected: Any) -> float:
    """The largest one, as a share of the value where that is not almost nothing."""
    return float((np.abs(result - expected) / np.maximum(expected, 1e-6)).max())


@pytest.mark.parametrize("network", NETWORKS)
def test_a_checkpoint_saved_just_now_converts_to_the_same_numbers(made: Path, network: str) -> None:
    batch = seeded.pictures(1, 4, 160, 160, 3)
    model = as_onnx(read_checkpoint(files(made / network), network), 160)
    (result,) = run_onnx(model, nchw(batch), ["embeddings"])
    worst = difference(result, arrays(made / "answers.npz")[network])
    print(f"{network}: largest relative difference {worst:.2g}")
    assert worst < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_a_model_saved_just_now_converts_to_the_same_numbers(made: Path, name: str) -> None:
    answers = arrays(made / "answers.npz")
    if name not in answers:
        pytest.skip("tf_keras, which writes Keras 2's folders, is not beside TensorFlow")
    side = 100 if "mask" in name else 20
    batch = seeded.pictures(2, 4, side, side, 3)
    model = as_onnx(read_saved_model(files(made / name)), side)
    (result,) = run_onnx(model, nchw(batch), ["embeddings"])
    worst = difference(result, answers[name])
    print(f"{name}: largest relative difference {worst:.2g}")
    assert worst < 1e-4


def test_the_committed_answers_are_what_tensorflow_gives(made: Path) -> None:
    kept, fresh = recorded("tensorflow_folders.npz"), arrays(made / "answers.npz")
    names = kept.keys() & fresh.keys()
    assert names >= {"inception_v3_age", "keras3_small"}
    assert_equal({name: fresh[name] for name in names}, {name: kept[name] for name in names})
