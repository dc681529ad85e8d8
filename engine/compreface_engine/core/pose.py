"""Head pose from five landmarks, with a rigid head of six points and a pinhole camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Left eye, right eye, nose, left and right mouth corner, chin, in the units of upstream's model.
_HEAD = np.array(
    [(-8, 9, -8), (8, 9, -8), (0, 1, 0), (-5, -4, -8), (5, -4, -8), (0, -11, -4)], np.float64
)


@dataclass(frozen=True, slots=True)
class Pose:
    """The angles of a head in degrees; all are 0 for a face that looks into the camera."""

    pitch: float
    roll: float
    yaw: float


def estimate(landmarks: Sequence[tuple[int, int]], *, width: int, height: int) -> Pose:
    """The pose of a face from its five integer landmarks in an image of `width` x `height` px.

    The principal point is (height / 2, width / 2), swapped as in the original engine, whose numbers
    are the contract. Points that do not form a face give some pose, never an error.
    """
    eye_left, eye_right, _, mouth_left, mouth_right = landmarks
    bridge = [(a + b) // 2 for a, b in zip(eye_left, eye_right, strict=True)]
    mouth = [(a + b) // 2 for a, b in zip(mouth_left, mouth_right, strict=True)]
    chin = [m + (m - b) // 2 for m, b in zip(mouth, bridge, strict=True)]
    points = np.array([*landmarks, chin], np.float64)
    camera = np.array([[width, 1, height / 2], [0, width, width / 2], [0, 0, 1]], np.float64)
    _, rotation, _ = cv2.solvePnP(_HEAD, points, camera, np.zeros((4, 1)))
    matrix: NDArray[np.float64] = np.asarray(cv2.Rodrigues(rotation)[0], np.float64)
    a0, a1, a2 = (float(a) for a in cv2.RQDecomp3x3(matrix)[0])
    return Pose(pitch=float(np.sign(a0)) * 180 - a0, roll=float(np.sign(a2)) * 180 - a2, yaw=a1)
