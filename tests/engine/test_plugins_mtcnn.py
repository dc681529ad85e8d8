"""The MTCNN detector around its cascade: margins, thresholds, landmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from compreface_engine.core.types import BoundingBox, Detection, Image
from compreface_engine.plugins.mtcnn import MtcnnDetector
from compreface_engine.plugins.mtcnn_cascade import Candidates, Mtcnn

_POINTS = [(104.9, 124.2), (153.0, 124.9), (131.5, 157.0), (106.9, 177.1), (146.2, 177.8)]


class _Unused:
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        raise AssertionError("no network is needed")


class Cascade(Mtcnn):
    """Finds these boxes with these scores, and the same points in each."""

    def __init__(self, boxes: list[list[float]], scores: list[float]) -> None:
        super().__init__(_Unused(), _Unused(), _Unused())
        points = np.array([_POINTS] * len(boxes), np.float32)
        self._found = Candidates(np.array(boxes), np.array(scores, np.float32), points)
        self.shapes: list[tuple[int, ...]] = []

    def find(self, image: Image) -> Candidates:
        self.shapes.append(image.shape)
        return self._found


def _detector(cascade: Mtcnn, *, limit: int = 640, whole: bool = True) -> MtcnnDetector:
    return MtcnnDetector(
        cascade, version="facenet.FaceDetector", length_limit=limit, whole_pixel_landmarks=whole
    )


def _black(height: int, width: int) -> Image:
    return np.zeros((height, width, 3), np.uint8)


def _detect(detector: MtcnnDetector, image: Image, score: float = 0.85) -> list[Detection]:
    (found,) = detector.detect([image], min_score=score)
    return found


def test_boxes_get_the_margins_and_are_cut_at_the_border() -> None:
    cascade = Cascade([[100.9, 100.9, 200.2, 220.2], [-5.0, -5.0, 300.0, 310.0]], [0.875, 0.9375])
    first, second = _detect(_detector(cascade), _black(240, 256))
    # w = int(200.2 - 100) = 100, h = int(220.2 - 100) = 120
    assert first.box == BoundingBox(78, 87, 222, 231, 0.875)
    assert second.box == BoundingBox(0, 0, 256, 240, 0.9375)


def test_a_face_must_be_more_probable_than_the_threshold() -> None:
    detector = _detector(Cascade([[10, 10, 50, 50]], [0.875]))
    assert len(_detect(detector, _black(100, 100), 0.87)) == 1
    assert _detect(detector, _black(100, 100), 0.875) == []


@pytest.mark.parametrize("box", [[120, 10, 130, 50], [10, 120, 50, 130], [50, 10, 50.5, 50]])
def test_a_box_without_area_is_no_face(box: list[float]) -> None:
    assert _detect(_detector(Cascade([box], [0.99])), _black(100, 100)) == []


def test_detection_sees_the_small_picture_and_answers_for_the_large_one() -> None:
    cascade = Cascade([[100.9, 100.9, 200.2, 220.2]], [0.875])
    (face,) = _detect(_detector(cascade), _black(480, 1280))
    assert cascade.shapes == [(240, 640, 3)]
    assert face.box == BoundingBox(156, 174, 444, 462, 0.875)
    assert face.landmarks is not None
    assert face.landmarks.tolist()[0] == [208, 248]


def test_landmarks_are_whole_pixels_for_upstream_and_exact_for_aligned_calculators() -> None:
    cascade = Cascade([[10, 10, 90, 90]], [0.9])
    for whole, expected in ((True, [104.0, 124.0]), (False, [104.9, 124.2])):
        (face,) = _detect(_detector(cascade, whole=whole), _black(200, 200))
        assert face.landmarks is not None
        assert face.landmarks[0] == pytest.approx(expected, abs=1e-4)


def test_without_detection_the_whole_picture_is_one_face() -> None:
    whole = _detector(Cascade([], [])).whole(_black(546, 819))
    assert whole == Detection(BoundingBox(0, 0, 819, 546, 1.0), None)
