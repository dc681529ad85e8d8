"""YuNet, OpenCV's small detector: two scores a cell, sizes as logarithms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compreface_engine.plugins.context import Context, Notation
from compreface_engine.plugins.single_stage import (
    Candidates,
    Family,
    SingleStageDetector,
    concatenated,
    load,
)
from compreface_engine.plugins.stride_outputs import by_stride, cells


def read(outputs: Sequence[NDArray[Any]], size: tuple[int, int], min_score: float) -> Candidates:
    """Decodes twelve outputs: class, object, box and points for strides 8, 16 and 32.

    The score is the root of class times object, centre and points are (cell + delta) * stride,
    sides exp(delta) * stride (libfacedetection.train, Apache-2.0).
    """
    parts = []
    for priors in by_stride(outputs, size, scores=2, anchors=1):
        class_score, object_score = (score.clip(0, 1) for score in priors.scores)
        scores = np.sqrt(class_score * object_score)
        rows = np.flatnonzero(scores > np.float32(min_score))
        cell = cells(rows, size[1], priors.stride, 1)
        deltas = priors.boxes[rows]
        centre = (cell + deltas[:, :2]) * priors.stride
        half = np.exp(deltas[:, 2:]) * (priors.stride * 0.5)
        points = (priors.points[rows] + cell[:, None]) * priors.stride
        parts.append(Candidates(np.hstack((centre - half, centre + half)), scores[rows], points))
    return concatenated(parts)


FAMILY: Final = Family(read, default_min_score=0.8, overlap=0.3, multiple=32, clip=True)
"""The overlap is that of OpenCV's own `FaceDetectorYN`."""


def make(notation: Notation, context: Context) -> SingleStageDetector:
    """A YuNet network."""
    return load(notation, context, FAMILY)
