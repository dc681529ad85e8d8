"""Every analyzer of the registry: it answers in the contract's form, and a crowd as one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compreface_engine.api.answers import to_json
from compreface_engine.core.geometry import aligned_crop, facenet_crop
from compreface_engine.core.types import (
    Align,
    BoundingBox,
    Crops,
    CropSpec,
    Detection,
    Embeddings,
    Image,
)
from compreface_engine.pipeline import Pipeline, PipelineConfig
from compreface_engine.plugins import registry
from compreface_engine.plugins.api import Analyzer, FaceContext
from tests.engine import face_networks as fn

ANALYZERS = sorted(name for name, row in registry.PLUGINS.items() if row.role == "analyzer")
# What a network of each plugin looks like: the width of its rows and its input. A new row of the
# registry needs one here.
NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "agegender.AgeDetector": (8, {"size": 160, "mean": None, "scale": None}),
    "agegender.GenderDetector": (2, {"size": 160, "mean": None, "scale": None}),
    "dlib.AgeDetector": (81, {"size": 64}),
    "dlib.GenderDetector": (2, {"size": 32}),
    "embedded.AgeDetector": (3, {"size": 112}),
    "embedded.GenderDetector": (3, {"size": 112}),
    "facemask.MaskDetector": (2, {"size": 224}),
    "facenet.facemask.MaskDetector": (3, {"size": 100, "scale": 255}),
    "genderage.AgeDetector": (3, {"size": 96}),
    "genderage.GenderDetector": (202, {"size": 112}),
    "insightface.AgeDetector": (202, {"size": 112, "colour": "bgr"}),
    "insightface.GenderDetector": (202, {"size": 112, "colour": "bgr"}),
    "insightface.Landmarks2d106Detector": (212, {"size": 192}),
    "insightface.facemask.MaskDetector": (
        3,
        {"size": 224, "mean": [123.675, 116.28, 103.53], "scale": [58.395, 57.12, 57.375]},
    ),
    "landmarks2d106.Landmarks2d106Detector": (212, {"size": 192}),
}
IMAGE = fn.smooth(200, 300)


def _shares(width: int) -> fn.Compute:
    """A seeded network: shares of 1 that depend on what is seen, row by row."""
    weights = np.random.default_rng(3).standard_normal((48, width))

    def compute(batch: NDArray[Any]) -> NDArray[Any]:
        flat = batch.reshape(len(batch), -1)
        parts = [part.mean(axis=1) for part in np.array_split(flat, 48, axis=1)]
        seen = np.stack(parts, axis=1)
        seen = (seen - seen.mean(axis=1, keepdims=True)) / (seen.std(axis=1, keepdims=True) + 1e-6)
        powers = np.exp(seen @ weights / 7)
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    return compute


def _years_and_shares(batch: NDArray[Any]) -> NDArray[Any]:
    """Years that depend on what is seen, and the shares of two."""
    return np.column_stack((batch.mean(axis=(1, 2, 3)) / 3, _shares(2)(batch)))


def _load(name: str, folder: Path) -> Analyzer:
    models = registry.PLUGINS[name].models
    if models == () and name not in NETWORKS:
        return fn.analyzers([name], folder, fn.Network(fn.constant([0])))[0]
    width, described = NETWORKS[name]
    if name.startswith("embedded."):
        return fn.analyzer(name, folder, fn.Network(_years_and_shares))
    fn.describe(folder, models[0] if models else "mine", **described)
    return fn.analyzer(name if models else f"{name}@mine", folder, fn.Network(_shares(width)))


def _detections(count: int) -> list[Detection]:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(count):
        x, y, side = (int(v) for v in rng.integers((0, 0, 30), (200, 120, 90)))
        points = [(0.3, 0.4), (0.7, 0.38), (0.5, 0.6), (0.35, 0.8), (0.66, 0.82)]
        marks = np.array(points) * side + (x, y) + rng.uniform(-2, 2, (5, 2))
        found.append(Detection(BoundingBox(x, y, x + side, y + side + 9, 0.9), marks))
    return found


def _contexts(plugin: Analyzer, detections: Sequence[Detection]) -> list[FaceContext]:
    faces = []
    for detection in detections:
        crop: Crops | None = None
        if plugin.crop is not None and plugin.crop.align is Align.FACENET_MARGIN:
            crop = facenet_crop(IMAGE, detection.box, plugin.crop.size)[None]
        elif plugin.crop is not None:
            assert detection.landmarks is not None
            crop = aligned_crop(IMAGE, detection.landmarks, plugin.crop.size)[None]
        faces.append(FaceContext(IMAGE, detection, crop))
    return faces


def _is_pairs(value: Any, count: int) -> bool:
    return len(value) == count and all(type(v) is int for point in value for v in point)


FORMS: dict[str, Callable[[Any], bool]] = {
    "age": lambda v: (
        {type(v["low"]), type(v["high"])} == {int}
        and 0 <= v["low"] <= v["high"]
        and type(v["probability"]) is float
        and v.keys() == {"low", "high", "probability"}
    ),
    "gender": lambda v: (
        v["value"] in ("male", "female")
        and 0.5 <= v["probability"] <= 1
        and v.keys() == {"value", "probability"}
    ),
    "mask": lambda v: (
        v["value"] in ("with_mask", "without_mask", "mask_weared_incorrect")
        and 0 < v["probability"] <= 1
        and v.keys() == {"value", "probability"}
    ),
    "landmarks": lambda v: _is_pairs(v, 5),
    "landmarks2d106": lambda v: _is_pairs(v, 106),
    "pose": lambda v: all(type(v[k]) is float for k in ("pitch", "roll", "yaw")) and len(v) == 3,
}


@pytest.mark.parametrize("name", ANALYZERS)
def test_an_analyzer_answers_in_the_contracts_form(tmp_path: Path, name: str) -> None:
    plugin = _load(name, tmp_path)
    values = fn.answers(plugin, _contexts(plugin, _detections(9)))
    assert all(FORMS[plugin.slug](value) for value in values)
    assert to_json(values)
    assert len({str(value) for value in values}) > 1 or plugin.slug in ("gender", "mask")


@pytest.mark.parametrize("name", ANALYZERS)
def test_a_crowd_is_answered_as_its_faces_one_by_one(tmp_path: Path, name: str) -> None:
    plugin = _load(name, tmp_path)
    detections = _detections(11)
    together = fn.answers(plugin, _contexts(plugin, detections))
    alone = [fn.answers(plugin, _contexts(plugin, [one]))[0] for one in detections]
    assert together == _nearly(alone)


def _nearly(value: Any) -> Any:
    if isinstance(value, list):
        return [_nearly(item) for item in value]
    if isinstance(value, dict):
        return {key: _nearly(item) for key, item in value.items()}
    return pytest.approx(value, abs=1e-6) if isinstance(value, float) else value


class Found:
    """A detector that finds these faces in every picture."""

    version = "fake.FaceDetector"
    default_min_score = 0.5

    def __init__(self, detections: list[Detection]) -> None:
        self._detections = detections

    def detect(self, images: Sequence[Image], *, min_score: float) -> list[list[Detection]]:
        return [self._detections for _ in images]

    def whole(self, image: Image) -> Detection:
        return Detection(BoundingBox(0, 0, image.shape[1], image.shape[0], 1.0), None)


class Idle:
    version = "fake.Calculator"
    similarity_coefficients = (1.0, 2.0)
    dimension = 1
    crop = CropSpec(16, Align.ARCFACE5)

    def embed(self, crops: Crops) -> Embeddings:
        return np.zeros((len(crops), 1), np.float32)


def _scan(plugins: Sequence[Analyzer], detect: bool) -> list[dict[str, Any]]:
    pipeline = Pipeline(Found(_detections(40)), Idle(), plugins, PipelineConfig())
    slugs = frozenset(plugin.slug for plugin in plugins)
    faces = pipeline.scan(IMAGE, min_score=None, detect=detect, slugs=slugs)
    return [face.answers for face in faces]


@pytest.mark.parametrize("name", ANALYZERS)
def test_a_whole_picture_without_detection_is_answered_or_left_out(
    tmp_path: Path, name: str
) -> None:
    plugin = _load(name, tmp_path)
    (answer,) = _scan([plugin], detect=False)
    left_out = "MaskDetector" in name or "PoseEstimator" in name  # contract section 9
    assert (plugin.key not in answer) is left_out
    if not left_out and plugin.slug != "landmarks":  # five empty points, as upstream answers
        assert FORMS[plugin.slug](answer[plugin.key])


@pytest.mark.parametrize(
    ("package", "compute"), [("insightface", _shares(202)), ("embedded", _years_and_shares)]
)
def test_gender_and_age_of_one_scan_run_their_network_once_a_face(
    tmp_path: Path, package: str, compute: fn.Compute
) -> None:
    fn.describe(tmp_path, "genderage_v1", size=112, colour="bgr")
    network = fn.Network(compute)
    plugins = fn.analyzers(
        [f"{package}.GenderDetector", f"{package}.AgeDetector"], tmp_path, network
    )
    network.fed.clear()
    first = _scan(plugins, detect=True)
    assert len(first) == sum(network.batches) == 40
    assert all(answer.keys() == {"gender", "age"} for answer in first)
    assert _scan(plugins, detect=True) == first
    assert sum(network.batches) == 80  # nothing of a request is kept
