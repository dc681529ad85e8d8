"""MTCNN over three networks, step by step as the original engine runs it, its quirks included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.crew import Spread, in_turn
from compreface_engine.core.nms import suppress
from compreface_engine.core.pyramid import Pyramid
from compreface_engine.core.types import Image
from compreface_engine.plugins.batches import slices
from compreface_engine.runtimes.base import Session

Floats = NDArray[np.float64]

# Upstream's settings (contract section 12.1).
_FACTOR: Final = 0.709
_BASE: Final = 12 / 20  # P-Net's cell over the smallest face, px
_CELL: Final = 12
_STRIDE: Final = 2
_P_THRESHOLD: Final = 0.9436513301
_R_THRESHOLD: Final = 0.7059968943
_O_THRESHOLD: Final = 0.5506904359
_BLACK: Final = np.float32(-127.5 / 128)
_BATCH: Final = 16  # patches a run: O-Net is an eighth slower once they leave the cache


@dataclass(frozen=True, slots=True)
class Candidates:
    """N faces: `boxes` float64 [N, 4] (x1, y1, x2, y2), `scores` [N], `points` float32 [N, 5, 2].

    Pixels of the image given, scores 0..1.
    """

    boxes: Floats
    scores: NDArray[np.float32]
    points: NDArray[np.float32]


_NOTHING: Final = Candidates(
    np.empty((0, 4)), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
)


class Mtcnn:
    """The cascade. Thread-safe: it keeps nothing between pictures."""

    def __init__(
        self, pnet: Session, rnet: Session, onet: Session, *, spread: Spread = in_turn
    ) -> None:
        """`spread` runs scales and batches of patches side by side where it can."""
        self._pnet, self._rnet, self._onet = pnet, rnet, onet
        self._spread = spread

    def find(self, image: Image) -> Candidates:
        """Faces of an RGB picture, best score first; O-Net's threshold is the only filter."""
        boxes = self._propose(image)
        if not len(boxes):
            return _NOTHING
        pixels = _normalised(image)
        patches = _patches(pixels, boxes, 24)
        if patches is None:
            return _NOTHING
        boxes, crops = patches
        offsets, probs = self._run(self._rnet, crops, ("box", "prob"))
        keep = probs[:, 1] > _R_THRESHOLD
        boxes, scores, offsets = boxes[keep], probs[keep, 1], offsets[keep]
        picked = suppress(boxes, scores, 0.7)
        boxes = _whole(_square(_refine(boxes[picked], offsets[picked], 1)))
        return self._finish(pixels, boxes)

    def _finish(self, pixels: NDArray[np.float32], boxes: Floats) -> Candidates:
        """O-Net: the last word on score, box and landmarks."""
        patches = _patches(pixels, boxes, 48) if len(boxes) else None
        if patches is None:
            return _NOTHING
        boxes, crops = patches
        offsets, marks, probs = self._run(self._onet, crops, ("box", "landmark", "prob"))
        keep = probs[:, 1] > _O_THRESHOLD
        boxes, scores = boxes[keep], probs[keep, 1]
        sides = boxes[:, None, 2:] - boxes[:, None, :2] + 1
        fractions = marks[keep].reshape(-1, 2, 5).transpose(0, 2, 1)
        points = (sides * fractions + boxes[:, None, :2] - 1).astype(np.float32)
        boxes = _refine(boxes, offsets[keep], 1)
        picked = suppress(boxes, scores, 0.7, of_smaller=True)
        return Candidates(boxes[picked], scores[picked], points[picked])

    def _propose(self, image: Image) -> Floats:
        """P-Net over the pyramid: integer square boxes, float64 [N, 4]."""
        pyramid = Pyramid(image)
        height, width = image.shape[:2]

        def propose(scale: float) -> tuple[Floats, NDArray[np.float32], NDArray[np.float32]]:
            size = int(np.ceil(width * scale)), int(np.ceil(height * scale))
            return self._propose_at(pyramid.shrunk(*size), scale)

        found = self._spread(propose, _scales(height, width))
        if not found:
            return np.empty((0, 4))
        boxes, scores, offsets = (np.concatenate(parts) for parts in zip(*found, strict=True))
        picked = suppress(boxes, scores, 0.7)
        return _whole(_square(_refine(boxes[picked], offsets[picked], 0)))

    def _propose_at(
        self, small: Image, scale: float
    ) -> tuple[Floats, NDArray[np.float32], NDArray[np.float32]]:
        """Candidate boxes, scores and offsets in a picture shrunk by `scale`."""
        feeds = {"input": _planar(_normalised(small)[None])}
        offset_map, prob_map = self._pnet.run(feeds, ("box", "prob"))
        face = prob_map[0, 1].T  # columns first: candidates come in order of x, then y
        x, y = np.nonzero(face >= np.float32(_P_THRESHOLD))
        scores = face[x, y]
        # A lone candidate's offsets are read from the mirrored cell: a bug whose numbers we keep.
        column = face.shape[0] - 1 - x if len(x) == 1 else x
        offsets = offset_map[0][:, y, column].T
        cells = np.stack((x, y), axis=1) * _STRIDE
        boxes = np.hstack((np.fix((cells + 1) / scale), np.fix((cells + _CELL) / scale)))
        picked = suppress(boxes, scores, 0.5)
        return boxes[picked], scores[picked], offsets[picked]

    def _run(
        self, session: Session, crops: NDArray[np.float32], outputs: tuple[str, ...]
    ) -> list[NDArray[Any]]:
        def run(part: slice) -> list[NDArray[Any]]:
            return session.run({"input": crops[part]}, outputs)

        runs = self._spread(run, list(slices(len(crops), _BATCH)))
        return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def _scales(height: int, width: int) -> list[float]:
    scales: list[float] = []
    side = min(height, width) * _BASE
    while side >= _CELL:
        scales.append(_BASE * _FACTOR ** len(scales))
        side *= _FACTOR
    return scales


def _normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 [H, W, 3], (v - 127.5) / 128: exact in float32."""
    values = pixels.astype(np.float32)
    values -= np.float32(127.5)
    values *= np.float32(1 / 128)
    return values


def _planar(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N, H, W, 3] as [N, 3, H, W]."""
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))


def _refine(boxes: Floats, offsets: NDArray[np.float32], inclusive: int) -> Floats:
    """`boxes` moved by `offsets`, in box sizes; `inclusive` 1 counts both end pixels."""
    sides = boxes[:, 2:] - boxes[:, :2] + inclusive
    return boxes + offsets * np.tile(sides, 2)


def _whole(boxes: Floats) -> Floats:
    """Truncated toward zero."""
    return np.asarray(np.fix(boxes), np.float64)


def _square(boxes: Floats) -> Floats:
    """Boxes around the same centres, as high and wide as their longer side."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=-np.inf)
    corner = boxes[:, :2] + sides * 0.5 - longer * 0.5
    return np.hstack((corner, corner + longer))


def _patches(
    image: NDArray[np.float32], boxes: Floats, size: int
) -> tuple[Floats, NDArray[np.float32]] | None:
    """The boxes that have an area and their patches, float32 [N, 3, size, size].

    `image` is normalised. Boxes count from 1 and include both ends; black where they leave the
    picture. None if a box has exactly one zero side: the original then finds nothing at all.
    """
    edges = boxes.astype(np.int64)
    sides = edges[:, 2:] - edges[:, :2] + 1
    if ((sides == 0).any(axis=1) & (sides > 0).any(axis=1)).any():
        return None
    solid = (sides > 0).all(axis=1)
    boxes, edges = boxes[solid], edges[solid]
    if not len(boxes):
        return None
    crops = np.empty((len(edges), size, size, 3), np.float32)
    for crop, (x1, y1, x2, y2) in zip(crops, edges.tolist(), strict=True):
        part = _cut(image, x1 - 1, y1 - 1, x2, y2)
        cv2.resize(part, (size, size), crop, interpolation=cv2.INTER_AREA)
    return boxes, _planar(crops)


def _cut(image: NDArray[np.float32], x1: int, y1: int, x2: int, y2: int) -> NDArray[np.float32]:
    """Pixels x1..x2-1, y1..y2-1 of a normalised `image`, black outside it."""
    height, width = image.shape[:2]
    inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return inside
    canvas = np.full((y2 - y1, x2 - x1, 3), _BLACK)
    top, left = max(-y1, 0), max(-x1, 0)
    canvas[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return canvas
