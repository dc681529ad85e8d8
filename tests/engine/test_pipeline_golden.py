"""The FaceNet build against every recorded answer of the original engine, without HTTP."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compreface_engine.core.errors import NoFaceFound, RequestError
from compreface_engine.pipeline import FaceAnswer, Pipeline, PipelineConfig
from tests.contract.conftest import FACENET, prepare
from tests.contract.goldens import Difference, case, case_ids, check_faces
from tests.contract.pictures import picture
from tests.shared import ROOT, needs_shared

pytestmark = needs_shared

_PICTURES = ("sample-", "decoded-find-", "input-", "scan-input-", "det-prob-threshold-between-")
_SEEN: list[Difference] = []


def _cases() -> list[str]:
    """Recordings of one picture sent whole, defects of the original aside."""
    return [
        name
        for name in case_ids()
        if name.startswith(_PICTURES) and not case(name).get("defects_of_the_original")
    ]


@pytest.fixture(scope="module")
def facenet() -> Pipeline:
    folder = ROOT / ".cache" / "models"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{FACENET}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / FACENET / "model.json").is_file():
            prepare(folder)
    return _load(folder)


def _load(folder: Path) -> Pipeline:
    return Pipeline.load(
        PipelineConfig(
            detector="facenet.FaceDetector",
            calculator="facenet.Calculator",
            models_dir=folder,
            threads=1,
            concurrency=2,
        )
    )


def _json(face: FaceAnswer) -> dict[str, Any]:
    box = face.box
    edges = {"x_min": box.x_min, "y_min": box.y_min, "x_max": box.x_max, "y_max": box.y_max}
    answers = {
        key: value.astype(np.float64).tolist() if key == "embedding" else value
        for key, value in face.answers.items()
    }
    return {
        "box": {**edges, "probability": box.probability},
        "execution_time": face.execution_time,
        **answers,
    }


@pytest.mark.parametrize("name", _cases())
def test_a_picture_is_answered_as_by_the_original(facenet: Pipeline, name: str) -> None:
    recorded = case(name)
    request, response = recorded["request"], recorded["response"]
    query = dict(request["query"])
    plugins = query.get("face_plugins", "")
    slugs = frozenset({"calculator"} if request["path"] == "/scan_faces" else plugins.split(","))
    score = float(query["det_prob_threshold"]) if "det_prob_threshold" in query else None
    data = picture(request["files"][0]["source"])
    try:
        image = facenet.decode(data).image
        faces = facenet.scan(image, min_score=score, detect=True, slugs=slugs)
        if not faces:
            raise NoFaceFound
    except RequestError as error:
        refused: tuple[int, str] | None = (error.status, str(error))
    else:
        refused = None
    if refused is not None:
        assert refused == (response["status"], response["json"]["message"])
        return
    assert response["status"] == 200, response["json"]
    got = {"result": [_json(face) for face in faces]}
    _SEEN.extend(check_faces(got, {"result": response["json"]["result"]}))


def test_most_boxes_and_landmarks_are_equal_to_the_pixel() -> None:
    if len(_SEEN) < 100:
        pytest.skip("only a part of the recordings was compared")
    assert np.mean([seen.box_equal for seen in _SEEN]) >= 0.85
    assert np.mean([seen.landmarks_equal for seen in _SEEN]) >= 0.85
