"""A plain MTCNN: the steps around three networks, in NumPy and OpenCV.

The rules are those of the original engine (scales, 1-based crops, thresholds), so that both sides
of a comparison find the same boxes. The caller chooses the runtime of the networks.
"""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SMALLEST_FACE = 20
FACTOR = 0.709
THRESHOLDS = (0.9436513301, 0.7059968943, 0.5506904359)


class Networks(Protocol):
    """Batches [N, W, H, 3] float32, width first, to (box, [landmarks,] probability), NHWC."""

    def pnet(self, x: Array) -> list[Array]: ...

    def rnet(self, x: Array) -> list[Array]: ...

    def onet(self, x: Array) -> list[Array]: ...


def detect(image: Array, networks: Networks) -> list[tuple[tuple[int, int, int, int], float]]:
    """Faces of an RGB uint8 picture: (x, y, width, height) px, and probability."""
    boxes = _propose(image, networks)
    if not len(boxes):
        return []
    crops = _crops(image, boxes, 24)
    offsets, probabilities = networks.rnet(crops)
    keep = probabilities[:, 1] > THRESHOLDS[1]
    boxes, scores, offsets = boxes[keep], probabilities[keep, 1], offsets[keep]
    picked = _suppress(boxes, scores, 0.7)
    boxes = np.trunc(_square(_moved(boxes[picked], offsets[picked], 1)))
    if not len(boxes):
        return []
    crops = _crops(image, boxes, 48)
    offsets, _, probabilities = networks.onet(crops)
    keep = probabilities[:, 1] > THRESHOLDS[2]
    boxes, scores = boxes[keep], probabilities[keep, 1]
    boxes = _moved(boxes, offsets[keep], 1)
    candidates = []
    for index in _suppress(boxes, scores, 0.7, of_smaller=True):
        x, y = (max(0, int(value)) for value in boxes[index, :2])
        size = int(boxes[index, 2] - x), int(boxes[index, 3] - y)
        candidates.append(((x, y, *size), float(scores[index])))
    return candidates


def _propose(image: Array, networks: Networks) -> Array:
    """P-Net over the pyramid: square boxes [N, 4], whole numbers."""
    height, width = image.shape[:2]
    boxes, scores, offsets = [], [], []
    side = min(height, width) * (12 / SMALLEST_FACE)
    scales: list[float] = []
    while side >= 12:
        scales.append(12 / SMALLEST_FACE * FACTOR ** len(scales))
        side *= FACTOR
    for scale in scales:
        size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        x = np.transpose((small.astype(np.float32) - 127.5) * 0.0078125, (1, 0, 2))[None]
        moves, probabilities = (part[0] for part in networks.pnet(x))
        cells = np.argwhere(probabilities[..., 1] >= THRESHOLDS[0])
        # Near 1 float32 has few values, and ties would decide which box is kept: the share of the
        # background distinguishes the same candidates.
        score = 1.0 - probabilities[cells[:, 0], cells[:, 1], 0].astype(np.float64)
        corners = [np.trunc((cells * 2 + 1) / scale), np.trunc((cells * 2 + 12) / scale)]
        box = np.concatenate(corners, axis=1)
        picked = _suppress(box, score, 0.5)
        boxes.append(box[picked])
        scores.append(score[picked])
        # The original reads a single candidate's offsets from the mirrored column.
        columns = len(moves) - 1 - cells[:, 0] if len(cells) == 1 else cells[:, 0]
        offsets.append(moves[columns, cells[:, 1]][picked])
    if not boxes:
        return np.empty((0, 4))
    box, score, move = (np.concatenate(parts) for parts in (boxes, scores, offsets))
    picked = _suppress(box, score, 0.7)
    return np.trunc(_square(_moved(box[picked], move[picked], 0)))


def _crops(image: Array, boxes: Array, size: int) -> Array:
    """The network's input for each box: [N, size, size, 3], transposed, black beyond the border."""
    height, width = image.shape[:2]
    crops = np.empty((len(boxes), size, size, 3), np.float32)
    for crop, (x1, y1, x2, y2) in zip(crops, boxes.astype(int), strict=True):
        canvas = np.zeros((y2 - y1 + 1, x2 - x1 + 1, 3), np.uint8)
        top, left = max(y1, 1), max(x1, 1)
        part = image[top - 1 : min(y2, height), left - 1 : min(x2, width)]
        canvas[top - y1 : top - y1 + part.shape[0], left - x1 : left - x1 + part.shape[1]] = part
        resized = cv2.resize(canvas.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
        crop[:] = resized.transpose(1, 0, 2)
    crops -= np.float32(127.5)
    crops *= np.float32(0.0078125)
    return crops


def _moved(boxes: Array, offsets: Array, inclusive: int) -> Array:
    sides = boxes[:, 2:] - boxes[:, :2] + inclusive
    return np.asarray(boxes + offsets * np.concatenate([sides, sides], axis=1))


def _square(boxes: Array) -> Array:
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=0)
    corner = boxes[:, :2] + sides / 2 - longer / 2
    return np.concatenate([corner, corner + longer], axis=1)


def _suppress(boxes: Array, scores: Array, threshold: float, *, of_smaller: bool = False) -> Array:
    """Non-maximum suppression: the indices kept, best first."""
    x1, y1, x2, y2 = boxes.T
    area = (x2 - x1 + 1) * (y2 - y1 + 1)
    order = np.argsort(scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[-1], order[:-1]
        kept.append(best)
        width = np.minimum(x2[best], x2[order]) - np.maximum(x1[best], x1[order]) + 1
        height = np.minimum(y2[best], y2[order]) - np.maximum(y1[best], y1[order]) + 1
        shared = np.maximum(0, width) * np.maximum(0, height)
        both = (
            np.minimum(area[best], area[order]) if of_smaller else area[best] + area[order] - shared
        )
        order = order[shared / both <= threshold]
    return np.array(kept, int)
