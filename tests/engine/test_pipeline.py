"""The pipeline from bytes to faces, with fake plugins and with the bundled networks."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import compreface_engine
from compreface_engine.core.errors import BrokenImage, ConfigurationError, TooManyPixels
from compreface_engine.core.geometry import ARCFACE_TEMPLATE, facenet_crop
from compreface_engine.core.types import (
    Align,
    Attribute,
    BoundingBox,
    Crops,
    CropSpec,
    Detection,
    Embeddings,
    Image,
)
from compreface_engine.pipeline import Pipeline, PipelineConfig
from compreface_engine.plugins.api import Analyzer, FaceContext

ALL = frozenset({"calculator", "landmarks", "pose", "size"})
IMAGE: Image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


class FixedDetector:
    version = "fake.FaceDetector"
    default_min_score = 0.75

    def __init__(self, boxes: Sequence[BoundingBox]) -> None:
        self._boxes = boxes

    def detect(self, images: Sequence[Image], *, min_score: float) -> list[list[Detection]]:
        kept = [box for box in self._boxes if box.probability > min_score]
        return [[Detection(box, ARCFACE_TEMPLATE + 10) for box in kept] for _ in images]

    def whole(self, image: Image) -> Detection:
        return Detection(BoundingBox(0, 0, image.shape[1], image.shape[0], 1.0), None)


class MeanCalculator:
    version = "fake.Calculator"
    similarity_coefficients = (1.0, 2.0)
    dimension = 1

    def __init__(self, align: Align) -> None:
        self.crop = CropSpec(16, align)
        self.seen: list[Crops] = []

    def embed(self, crops: Crops) -> Embeddings:
        self.seen.append(crops)
        return np.asarray(crops.mean(axis=(1, 2, 3)), np.float32)[:, None]


class SizeAnalyzer:
    """An analyzer that answers the size of its crop."""

    version = "fake.Size"
    slug = "size"
    key = "side"
    needs_landmarks = False

    def __init__(self, crop: CropSpec | None = None, *, version: str = "fake.Size") -> None:
        self.crop = crop
        self.version = version

    def analyze(self, faces: Sequence[FaceContext]) -> list[Attribute]:
        return [Attribute(None if f.crop is None else f.crop.shape) for f in faces]


class PoseAnalyzer(SizeAnalyzer):
    slug = key = "pose"
    needs_landmarks = True


def _box(side: int, probability: float = 0.9, at: int = 5) -> BoundingBox:
    return BoundingBox(at, at, at + side, at + side, probability)


def _pipeline(
    boxes: Sequence[BoundingBox] = (),
    align: Align = Align.FACENET_MARGIN,
    analyzers: Sequence[Analyzer] = (),
) -> tuple[Pipeline, MeanCalculator]:
    calculator = MeanCalculator(align)
    config = PipelineConfig(max_pixels=100_000)
    return Pipeline(FixedDetector(boxes), calculator, analyzers, config), calculator


def _png(image: Image) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(image).save(out, "PNG")
    return out.getvalue()


def test_faces_are_sorted_by_size_and_equal_ones_keep_the_detectors_order() -> None:
    boxes = [_box(20, 0.81), _box(40, 0.82), _box(20, 0.83, at=30), _box(30, 0.84)]
    pipeline, _ = _pipeline(boxes)
    faces = pipeline.scan(IMAGE, min_score=None, detect=True, slugs=frozenset())
    assert [face.box.probability for face in faces] == [0.82, 0.84, 0.81, 0.83]
    assert all(face.answers == {} for face in faces)
    assert all(face.execution_time.keys() == {"detector"} for face in faces)


def test_the_threshold_is_the_requests_or_the_detectors() -> None:
    pipeline, _ = _pipeline([_box(20, 0.5), _box(20, 0.76)])
    assert pipeline.default_min_score == 0.75
    for score, count in ((None, 1), (0.4, 2), (0.76, 0)):
        faces = pipeline.scan(IMAGE, min_score=score, detect=True, slugs=ALL)
        assert len(faces) == count


def test_all_faces_are_embedded_together_from_the_original_picture() -> None:
    boxes = [_box(20), _box(40)]
    pipeline, calculator = _pipeline(boxes)
    faces = pipeline.scan(IMAGE, min_score=None, detect=True, slugs=frozenset({"calculator"}))
    (crops,) = calculator.seen
    assert crops.shape == (2, 16, 16, 3)
    for face, crop in zip(faces, crops, strict=True):
        assert np.array_equal(crop, facenet_crop(IMAGE, face.box, 16))
        assert face.answers["embedding"][0] == pytest.approx(crop.mean(), rel=1e-5)
        assert face.execution_time.keys() == {"detector", "calculator"}


def test_many_faces_are_cropped_in_groups() -> None:
    pipeline, calculator = _pipeline([_box(10 + i % 50, 0.9) for i in range(70)])
    faces = pipeline.scan(IMAGE, min_score=None, detect=True, slugs=ALL)
    assert [len(crops) for crops in calculator.seen] == [32, 32, 6]
    assert len({id(face.answers["embedding"]) for face in faces}) == 70


def test_only_the_faces_within_the_limit_go_through_the_plugins() -> None:
    analyzer = SizeAnalyzer(CropSpec(16, Align.FACENET_MARGIN))
    pipeline, calculator = _pipeline(
        [_box(side) for side in (20, 50, 30, 40)], analyzers=[analyzer]
    )
    whole = pipeline.scan(IMAGE, min_score=None, detect=True, slugs=ALL)
    for limit in (1, 3, 4, 10**30):
        calculator.seen.clear()
        faces = pipeline.scan(IMAGE, min_score=None, detect=True, slugs=ALL, limit=limit)
        assert [face.box for face in faces] == [face.box for face in whole[:limit]]
        assert [face.answers for face in faces] == [face.answers for face in whole[:limit]]
        assert len(np.concatenate(calculator.seen)) == len(faces)


def test_beyond_a_thousand_faces_the_most_probable_are_kept() -> None:
    scores = np.random.default_rng(0).permutation(np.linspace(0.8, 0.99, 1500)).tolist()
    pipeline, calculator = _pipeline([_box(10 + i % 50, p) for i, p in enumerate(scores)])
    faces = pipeline.scan(IMAGE, min_score=None, detect=True, slugs=ALL)
    assert sorted(face.box.probability for face in faces) == sorted(scores)[500:]
    assert [face.box.area for face in faces] == sorted((f.box.area for f in faces), reverse=True)
    assert sum(map(len, calculator.seen)) == 1000


def test_an_aligned_calculator_gets_aligned_crops() -> None:
    pipeline, calculator = _pipeline([_box(40)], Align.ARCFACE5)
    pipeline.scan(IMAGE, min_score=None, detect=True, slugs=ALL)
    assert calculator.seen[0].dtype == np.uint8
    assert calculator.seen[0].shape == (1, 16, 16, 3)


@pytest.mark.parametrize("align", list(Align))
def test_without_detection_the_whole_picture_is_the_crop(align: Align) -> None:
    grey = np.full((40, 60, 3), 51, np.uint8)
    pipeline, calculator = _pipeline([], align, [PoseAnalyzer(), SizeAnalyzer()])
    (face,) = pipeline.scan(grey, min_score=0.99, detect=False, slugs=ALL)
    assert face.box == BoundingBox(0, 0, 60, 40, 1.0)
    assert face.answers.keys() == {"embedding", "side"}
    expected = 51 if align is Align.ARCFACE5 else 0.2
    assert calculator.seen[0] == pytest.approx(expected)


def test_analyzers_get_the_crop_they_declared_or_none() -> None:
    own = SizeAnalyzer(CropSpec(24, Align.ARCFACE5))
    shared = PoseAnalyzer(CropSpec(16, Align.FACENET_MARGIN))
    pipeline, _ = _pipeline([_box(20), _box(30)], analyzers=[own, shared])
    faces = pipeline.scan(IMAGE, min_score=None, detect=True, slugs=ALL)
    assert [face.answers["side"] for face in faces] == [(1, 24, 24, 3)] * 2
    assert [face.answers["pose"] for face in faces] == [(1, 16, 16, 3)] * 2
    pipeline, _ = _pipeline([_box(20)], analyzers=[SizeAnalyzer()])
    (face,) = pipeline.scan(IMAGE, min_score=None, detect=True, slugs=ALL)
    assert face.answers["side"] is None


def test_versions_name_the_detector_and_the_requested_plugins() -> None:
    pipeline, _ = _pipeline([], analyzers=[SizeAnalyzer(), PoseAnalyzer(version="fake.Pose")])
    assert pipeline.versions(frozenset(), True) == {"detector": "fake.FaceDetector"}
    asked = frozenset({"pose", "calculator", "unknown"})
    assert pipeline.versions(asked, True) == {
        "detector": "fake.FaceDetector",
        "calculator": "fake.Calculator",
        "pose": "fake.Pose",
    }
    assert "pose" not in pipeline.versions(asked, False)
    assert pipeline.plugins.keys() == {"detector", "calculator", "size", "pose"}
    assert pipeline.calculator_version == "fake.Calculator"
    assert pipeline.similarity_coefficients == (1.0, 2.0)


def test_the_later_of_two_plugins_with_the_same_slug_counts() -> None:
    pipeline, _ = _pipeline([_box(9)], analyzers=[SizeAnalyzer(), SizeAnalyzer(version="b.Size")])
    assert pipeline.plugins["size"] == "b.Size"


def test_decoding_keeps_the_configured_limits() -> None:
    pipeline, _ = _pipeline()
    assert np.array_equal(pipeline.decode(_png(IMAGE)).image, IMAGE)
    with pytest.raises(TooManyPixels):
        pipeline.decode(_png(np.zeros((400, 400, 3), np.uint8)))
    with pytest.raises(BrokenImage):
        pipeline.decode(b"text")


def test_exif_is_applied_only_when_configured() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    Pillow.fromarray(IMAGE).save(out, "JPEG", exif=exif)
    for apply, shape in ((False, (120, 160, 3)), (True, (160, 120, 3))):
        config = PipelineConfig(apply_exif=apply)
        pipeline = Pipeline(FixedDetector([]), MeanCalculator(Align.ARCFACE5), [], config)
        assert pipeline.decode(out.getvalue()).image.shape == shape


@pytest.fixture(scope="module")
def embedded() -> Pipeline:
    return Pipeline.load(PipelineConfig(threads=2))


def test_the_default_build_loads_from_the_package_alone(embedded: Pipeline) -> None:
    assert embedded.plugins == {
        "detector": "embedded.FaceDetector@mtcnn",
        "calculator": "embedded.Calculator@mobilefacenet192",
        "landmarks": "facenet.LandmarksDetector",
        "pose": "facenet.PoseEstimator",
        "age": "embedded.AgeDetector",
        "gender": "embedded.GenderDetector",
    }
    assert embedded.similarity_coefficients == (1.10, 6.0)


def test_noise_and_tiny_pictures_have_no_face(embedded: Pipeline) -> None:
    for shape in ((480, 640), (1, 1), (11, 11), (3, 2000), (2000, 3), (20, 20)):
        image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
        assert embedded.scan(image, min_score=0.0, detect=True, slugs=ALL) == []


def test_without_detection_the_default_build_gives_a_unit_vector(embedded: Pipeline) -> None:
    (face,) = embedded.scan(IMAGE, min_score=None, detect=False, slugs=ALL)
    assert face.answers["landmarks"] == [[], [], [], [], []]
    assert "pose" not in face.answers
    assert face.answers["embedding"].shape == (192,)
    assert np.linalg.norm(face.answers["embedding"]) == pytest.approx(1, abs=1e-6)


def test_threads_get_their_own_answers(embedded: Pipeline) -> None:
    random = np.random.default_rng(7)
    images = [random.integers(0, 256, (60, 40 + 3 * i, 3), np.uint8) for i in range(12)]

    def vector(image: Image) -> Embeddings:
        (face,) = embedded.scan(image, min_score=None, detect=False, slugs=ALL)
        embedding: Embeddings = face.answers["embedding"]
        return embedding

    alone = [vector(image) for image in images]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(vector, images))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_calculator_that_fails_in_the_warm_up_stops_the_start(tmp_path: Path) -> None:
    rnet = Path(compreface_engine.__file__).parent / "embedded_models" / "mtcnn_rnet.onnx"
    folder = tmp_path / "wrong"
    folder.mkdir()
    shutil.copy(rnet, folder / "model.onnx")
    described = {
        "schema": 1,
        "name": "wrong",
        "role": "calculator",
        "file": "model.onnx",
        "sha256": hashlib.sha256(rnet.read_bytes()).hexdigest(),
        "input": {"size": 112, "mean": 0, "scale": 1},
        "align": "arcface5",
        "similarity": [1, 1],
        "dimension": 4,
    }
    (folder / "model.json").write_text(json.dumps(described))
    config = PipelineConfig(calculator="custom.Calculator@wrong", models_dir=tmp_path)
    with pytest.raises(ConfigurationError, match=r"custom\.Calculator@wrong"):
        Pipeline.load(config)


def test_a_build_that_cannot_run_is_refused_at_load() -> None:
    with pytest.raises(ConfigurationError, match=r"custom\.Calculator@absent"):
        Pipeline.load(PipelineConfig(calculator="custom.Calculator@absent"))
