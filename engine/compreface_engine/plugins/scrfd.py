"""SCRFD as InsightFace exports it: boxes as distances from a cell's corner to the four sides."""

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

_ANCHORS: Final = 2


def read(outputs: Sequence[NDArray[Any]], size: tuple[int, int], min_score: float) -> Candidates:
    """Decodes nine outputs: score, distances and point offsets for strides 8, 16 and 32.

    Distances and offsets are in strides from the cell's top left corner (insightface, MIT).
    """
    parts = []
    for priors in by_stride(outputs, size, scores=1, anchors=_ANCHORS):
        rows = np.flatnonzero(priors.scores[0] > np.float32(min_score))
        corner = cells(rows, size[1], priors.stride, _ANCHORS) * priors.stride
        distances = priors.boxes[rows] * priors.stride
        boxes = np.hstack((corner - distances[:, :2], corner + distances[:, 2:]))
        points = priors.points[rows] * priors.stride + corner[:, None]
        parts.append(Candidates(boxes, priors.scores[0][rows], points))
    return concatenated(parts)


FAMILY: Final = Family(read, default_min_score=0.5, overlap=0.4, multiple=32, clip=True)


def make(notation: Notation, context: Context) -> SingleStageDetector:
    """An SCRFD network with landmarks."""
    return load(notation, context, FAMILY)
