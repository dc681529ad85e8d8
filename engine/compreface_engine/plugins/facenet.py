"""The FaceNet family: MTCNN with CompreFace's margins, the landmarks and the pose of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.geometry import scale_down, truncated_points
from compreface_engine.core.pose import estimate
from compreface_engine.core.types import Attribute, BoundingBox, CropSpec, Detection, Image
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.mtcnn import Mtcnn

# Margins in shares of the width or height MTCNN gives (contract section 12.3).
_LEFT, _TOP = 0.2125984251968504, 0.10526315789473684
_RIGHT, _BOTTOM = 0.2230769230769231, 0.09868421052631579


class FaceDetector:
    """MTCNN on the scaled-down picture, boxes widened by CompreFace's margins; see `Detector`."""

    default_min_score = 0.85

    def __init__(
        self, mtcnn: Mtcnn, *, version: str, length_limit: int, whole_pixel_landmarks: bool
    ) -> None:
        """`length_limit` px of the longer side, 0 for none.

        `whole_pixel_landmarks` truncates points in the scaled-down picture, as upstream does; an
        aligned calculator is better served without.
        """
        self.version = version
        self._mtcnn = mtcnn
        self._length_limit = length_limit
        self._whole_pixels = whole_pixel_landmarks

    def detect(self, images: Sequence[Image], *, min_score: float) -> list[list[Detection]]:
        """Faces of each image with a probability above `min_score`, in MTCNN's order."""
        return [self._detect(image, min_score) for image in images]

    def whole(self, image: Image) -> Detection:
        """The whole picture as one face."""
        height, width = image.shape[:2]
        return Detection(BoundingBox(0, 0, width, height, 1.0), None)

    def _detect(self, image: Image, min_score: float) -> list[Detection]:
        scaled = scale_down(image, self._length_limit)
        height, width = scaled.image.shape[:2]
        faces = self._mtcnn.find(scaled.image)
        detections = []
        for corners, score, points in zip(faces.boxes, faces.scores, faces.points, strict=True):
            x1, y1, x2, y2 = _with_margins(corners, width, height)
            box = scaled.box_to_original(x1, y1, x2, y2, float(score))
            # A box without area has no crop; the original fails on it.
            if score > min_score and box.x_max > box.x_min and box.y_max > box.y_min:
                detections.append(Detection(box, self._landmarks(points, scaled.coefficient)))
        return detections

    def _landmarks(self, points: NDArray[np.float32], coefficient: float) -> NDArray[np.float64]:
        exact = points.astype(np.float64)
        if self._whole_pixels:
            np.fix(exact, out=exact)
        return exact * (1 / coefficient)


def _with_margins(
    corners: NDArray[np.float64], width: int, height: int
) -> tuple[int, int, int, int]:
    """MTCNN's box made whole, widened and cut at the border of a `width` x `height` picture."""
    x1, y1, x2, y2 = corners.tolist()
    x, y = max(0, int(x1)), max(0, int(y1))
    w, h = int(x2 - x), int(y2 - y)
    return (
        int(max(x - _LEFT * w, 0)),
        int(max(y - _TOP * h, 0)),
        int(min(x + w + _RIGHT * w, width)),
        int(min(y + h + _BOTTOM * h, height)),
    )


class LandmarksDetector:
    """The detector's five points as whole pixels; see `Analyzer`."""

    slug = key = "landmarks"
    crop: CropSpec | None = None
    needs_landmarks = False

    def __init__(self, version: str) -> None:
        self.version = version

    def analyze(self, faces: Sequence[FaceContext]) -> list[Attribute]:
        """[[x, y] x 5] a face; five empty lists where detection was off, as upstream answers."""
        return [
            Attribute(
                [[], [], [], [], []]
                if (marks := face.detection.landmarks) is None
                else [list(point) for point in truncated_points(marks)]
            )
            for face in faces
        ]


class PoseEstimator:
    """Pitch, roll and yaw in degrees; see `Analyzer`."""

    slug = key = "pose"
    crop: CropSpec | None = None
    needs_landmarks = True

    def __init__(self, version: str) -> None:
        self.version = version

    def analyze(self, faces: Sequence[FaceContext]) -> list[Attribute]:
        """`{"pitch", "roll", "yaw"}` a face. Raises ValueError for a face without landmarks."""
        return [Attribute(self._pose(face)) for face in faces]

    @staticmethod
    def _pose(face: FaceContext) -> dict[str, float]:
        if face.detection.landmarks is None:
            raise ValueError("a pose needs landmarks")
        height, width = face.image.shape[:2]
        points = truncated_points(face.detection.landmarks)
        return asdict(estimate(points, width=width, height=height))
