"""What the detector's five points say: the landmarks and the pose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from compreface_engine.core.types import BoundingBox, Detection
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.points import LandmarksDetector, PoseEstimator

_POINTS = [(104.9, 124.2), (153.0, 124.9), (131.5, 157.0), (106.9, 177.1), (146.2, 177.8)]


def _context(points: Sequence[tuple[float, float]] | None, side: int = 256) -> FaceContext:
    landmarks = None if points is None else np.array(points)
    return FaceContext(
        np.zeros((side, side, 3), np.uint8),
        Detection(BoundingBox(0, 0, 9, 9, 1.0), landmarks),
        None,
    )


def test_landmarks_are_answered_truncated_and_empty_without_detection() -> None:
    plugin = LandmarksDetector("facenet.LandmarksDetector")
    seen, unseen = plugin.analyze([_context(_POINTS), _context(None)])
    assert seen.value == [[104, 124], [153, 124], [131, 157], [106, 177], [146, 177]]
    assert unseen.value == [[], [], [], [], []]
    assert not plugin.needs_landmarks


def test_a_pose_is_the_contracts_for_whole_pixels_and_needs_landmarks() -> None:
    plugin = PoseEstimator("facenet.PoseEstimator")
    (pose,) = plugin.analyze([_context(_POINTS)])
    assert pose.value == {
        "pitch": pytest.approx(-11.675, abs=0.05),
        "roll": pytest.approx(-0.344, abs=0.05),
        "yaw": pytest.approx(-13.752, abs=0.05),
    }
    assert plugin.needs_landmarks
    with pytest.raises(ValueError, match="landmarks"):
        plugin.analyze([_context(None)])
