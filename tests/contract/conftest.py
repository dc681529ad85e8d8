"""Engine processes that several contract tests share."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.process import Engine
from tests.shared import NO_SHARED, ROOT, SHARED, shared

FACENET = "20180402-114759"
SPEC = {
    "name": FACENET,
    "role": "calculator",
    "format": "tensorflow-graph",
    "files": [
        {
            "path": f"{FACENET}.pb",
            "sha256": "e238edda5b39aa79112f0c88b0e67e4d8115b84497961360c395d84f70f7ad6d",
        }
    ],
    "input": {"size": 160, "layout": "nhwc", "colour": "rgb", "mean": None, "scale": None},
    "align": "facenet-margin",
    "similarity": [1.1817961, 5.291995557],
}


@pytest.fixture(scope="session")
def embedded() -> Iterator[Engine]:
    """The default build; needs nothing but the checkout."""
    with Engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def facenet_models() -> Path:
    """A folder with the prepared FaceNet model, made once and kept in the checkout's cache."""
    if SHARED is None:
        pytest.skip(f"{FACENET} is needed; {NO_SHARED}")
    folder = ROOT / ".cache" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{FACENET}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / FACENET / "model.json").is_file():
            prepare(folder)
    return folder


def prepare(folder: Path) -> None:
    """Converts the FaceNet graph with our own converter; needs no TensorFlow."""
    with tempfile.TemporaryDirectory() as work:
        spec = Path(work) / "spec.json"
        spec.write_text(json.dumps(SPEC), encoding="utf-8")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "compreface_convert", "prepare"),
                *("--spec", str(spec), "--out", str(folder)),
                *("--models-source", str(shared("models", "facenet", f"{FACENET}.pb"))),
            ],
            cwd=ROOT / "engine",
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def facenet(facenet_models: Path) -> Iterator[Engine]:
    """The build whose answers were recorded from the original."""
    with Engine(
        FACE_DETECTION_PLUGIN="facenet.FaceDetector",
        CALCULATION_PLUGIN="facenet.Calculator",
        EXTRA_PLUGINS="facenet.LandmarksDetector,facenet.PoseEstimator",
        CF_MODELS_DIR=str(facenet_models),
    ) as engine:
        yield engine
