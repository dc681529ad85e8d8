"""The landmarks and the pose, both from the detector's five points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from compreface_engine.core.geometry import truncated_points
from compreface_engine.core.pose import estimate
from compreface_engine.core.types import Attribute, CropSpec
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context, Notation


class LandmarksDetector:
    """The detector's five points as whole pixels; see `Analyzer`."""

    slug = key = "landmarks"
    crop: CropSpec | None = None
    needs_landmarks = False

    def __init__(self, version: str) -> None:
        self.version = version

    def analyze(self, faces: Sequence[FaceContext]) -> list[Attribute]:
        """[[x, y] x 5] per face; five empty lists where detection was off, as upstream answers."""
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
        """`{"pitch", "roll", "yaw"}` per face. Raises ValueError for a face without landmarks."""
        return [Attribute(self._pose(face)) for face in faces]

    @staticmethod
    def _pose(face: FaceContext) -> dict[str, float]:
        if face.detection.landmarks is None:
            raise ValueError("a pose needs landmarks")
        height, width = face.image.shape[:2]
        points = truncated_points(face.detection.landmarks)
        return asdict(estimate(points, width=width, height=height))


def make_landmarks(notation: Notation, _: Context) -> LandmarksDetector:
    """The `LandmarksDetector` of both families."""
    return LandmarksDetector(notation.version)


def make_pose(notation: Notation, _: Context) -> PoseEstimator:
    """The `PoseEstimator` of both families."""
    return PoseEstimator(notation.version)
