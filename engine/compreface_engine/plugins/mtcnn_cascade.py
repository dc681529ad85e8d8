"""The MTCNN cascade of three networks, step by step as upstream runs it, quirks included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.nms import suppress
from compreface_engine.core.parallel import ParallelMap, no_idle_workers, serial_map
from compreface_engine.core.pyramid import Pyramid
from compreface_engine.core.types import Image
from compreface_engine.plugins.batches import slices
from compreface_engine.runtimes.base import Session

Floats = NDArray[np.float64]

# Upstream's parameters (contract section 12.1).
_FACTOR: Final = 0.709
_BASE: Final = 12 / 20  # P-Net's cell over the smallest face, px
_CELL: Final = 12
_STRIDE: Final = 2
_P_THRESHOLD: Final = 0.9436513301
_R_THRESHOLD: Final = 0.7059968943
_O_THRESHOLD: Final = 0.5506904359
_MOST_CANDIDATES: Final = 32767  # upstream counts in int16 and breaks with more
_BATCH: Final = 16  # patches per run: O-Net is an eighth slower once they exceed the cache


@dataclass(frozen=True, slots=True)
class Candidates:
    """N faces: `boxes` float64 [N, 4] (x1, y1, x2, y2), `scores` [N], `points` float32 [N, 5, 2].

    In pixels of the image that was searched; scores 0..1.
    """

    boxes: Floats
    scores: NDArray[np.float32]
    points: NDArray[np.float32]


_NO_CANDIDATES: Final = Candidates(
    np.empty((0, 4)), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
)


class Mtcnn:
    """The cascade. Thread-safe: it keeps no state between pictures."""

    def __init__(
        self,
        pnet: Session,
        rnet: Session,
        onet: Session,
        *,
        parallel_map: ParallelMap = serial_map,
        idle_workers: Callable[[], int] = no_idle_workers,
    ) -> None:
        """`parallel_map` runs scales and batches of patches in parallel.

        `idle_workers` gives the number of workers that could help.
        """
        self._pnet, self._rnet, self._onet = pnet, rnet, onet
        self._parallel_map, self._idle_workers = parallel_map, idle_workers

    def find(self, image: Image) -> Candidates:
        """Faces of an RGB picture, best score first; O-Net's threshold is the only filter."""
        boxes = self._propose(image)
        if not len(boxes):
            return _NO_CANDIDATES
        pixels = image.astype(np.float32)
        judged = self._judge(self._rnet, pixels, boxes, 24, ("box", "prob"))
        if judged is None:
            return _NO_CANDIDATES
        boxes, (offsets, probs) = judged
        keep = probs[:, 1] > _R_THRESHOLD
        boxes, scores, offsets = boxes[keep], probs[keep, 1], offsets[keep]
        picked = suppress(boxes, scores, 0.7)
        boxes = _whole(_square(_refine(boxes[picked], offsets[picked], 1)))
        return self._finish(pixels, boxes)

    def _finish(self, pixels: NDArray[np.float32], boxes: Floats) -> Candidates:
        """Final scores, boxes and landmarks by O-Net."""
        judged = self._judge(self._onet, pixels, boxes, 48, ("box", "landmark", "prob"))
        if judged is None:
            return _NO_CANDIDATES
        boxes, (offsets, marks, probs) = judged
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

        by_scale = self._parallel_map(propose, _scales(height, width))
        if not by_scale:
            return np.empty((0, 4))
        boxes, scores, offsets = (np.concatenate(parts) for parts in zip(*by_scale, strict=True))
        picked = suppress(boxes, scores, 0.7, of_best=_MOST_CANDIDATES)
        return _whole(_square(_refine(boxes[picked], offsets[picked], 0)))

    def _propose_at(
        self, small: Image, scale: float
    ) -> tuple[Floats, NDArray[np.float32], NDArray[np.float32]]:
        """Candidate boxes, scores and offsets in a picture shrunk by `scale`."""
        planes = np.empty((1, 3, *small.shape[:2]), np.float32)
        for plane, values in zip(planes[0], cv2.split(small), strict=True):
            plane[...] = values
        feeds = {"input": _normalise(planes)}
        offset_map, prob_map = self._pnet.run(feeds, ("box", "prob"))
        face = prob_map[0, 1]
        y, x = np.divmod(np.flatnonzero(face >= np.float32(_P_THRESHOLD)), face.shape[1])
        if not len(x):
            return _NO_CANDIDATES.boxes, _NO_CANDIDATES.scores, np.empty((0, 4), np.float32)
        by_column = np.lexsort((y, x))  # the order of equal scores: by x, then y
        y, x = y[by_column], x[by_column]
        scores = face[y, x]
        # Upstream reads a single candidate's offsets from the mirrored cell; its numbers are kept.
        column = face.shape[1] - 1 - x if len(x) == 1 else x
        offsets = offset_map[0][:, y, column].T
        cells = np.stack((x, y), axis=1) * _STRIDE
        boxes = np.hstack((np.trunc((cells + 1) / scale), np.trunc((cells + _CELL) / scale)))
        picked = suppress(boxes, scores, 0.5, of_best=_MOST_CANDIDATES)
        return boxes[picked], scores[picked], offsets[picked]

    def _judge(
        self,
        session: Session,
        pixels: NDArray[np.float32],
        boxes: Floats,
        size: int,
        outputs: tuple[str, ...],
    ) -> tuple[Floats, list[NDArray[Any]]] | None:
        """The boxes that have an area, and the `outputs` of `session` for their patches.

        Boxes count from 1 and include both ends. None where no box has an area, or where a box has
        exactly one zero side: upstream then finds no face at all.
        """
        edges = boxes.astype(np.int64)
        sides = edges[:, 2:] - edges[:, :2] + 1
        if ((sides == 0).any(axis=1) & (sides > 0).any(axis=1)).any():
            return None
        has_area = (sides > 0).all(axis=1)
        boxes, edges = boxes[has_area], edges[has_area]
        if not len(boxes):
            return None

        def run(part: slice) -> list[NDArray[Any]]:
            return session.run({"input": _patches(pixels, edges[part], size)}, outputs)

        # The same number of runs for each worker: one that waits for another saves nothing.
        workers = 1 + self._idle_workers()
        runs = self._parallel_map(run, list(slices(len(boxes), _BATCH, workers)))
        return boxes, [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def _scales(height: int, width: int) -> list[float]:
    scales: list[float] = []
    side = min(height, width) * _BASE
    while side >= _CELL:
        scales.append(_BASE * _FACTOR ** len(scales))
        side *= _FACTOR
    return scales


def _normalise(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(v - 127.5) / 128 in place: exact for whole grey levels."""
    values -= np.float32(127.5)
    values *= np.float32(1 / 128)
    return values


def _refine(boxes: Floats, offsets: NDArray[np.float32], inclusive: int) -> Floats:
    """`boxes` moved by `offsets`, in box sizes; `inclusive` 1 counts both end pixels."""
    sides = boxes[:, 2:] - boxes[:, :2] + inclusive
    return boxes + offsets * np.tile(sides, 2)


def _whole(boxes: Floats) -> Floats:
    """Truncated toward zero."""
    return np.asarray(np.trunc(boxes), np.float64)


def _square(boxes: Floats) -> Floats:
    """The squares around the same centres with the longer side of each box."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=-np.inf)
    corner = boxes[:, :2] + sides * 0.5 - longer * 0.5
    return np.hstack((corner, corner + longer))


def _patches(
    image: NDArray[np.float32], edges: NDArray[np.int64], size: int
) -> NDArray[np.float32]:
    """The boxes `edges` of `image`, normalised [N, 3, size, size], black outside the picture."""
    crops = np.empty((len(edges), size, size, 3), np.float32)
    for crop, (x1, y1, x2, y2) in zip(crops, edges.tolist(), strict=True):
        part = _cut(image, x1 - 1, y1 - 1, x2, y2)
        cv2.resize(part, (size, size), crop, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(_normalise(crops).transpose(0, 3, 1, 2))


def _cut(image: NDArray[np.float32], x1: int, y1: int, x2: int, y2: int) -> NDArray[np.float32]:
    """Pixels x1..x2-1, y1..y2-1 of `image`, black outside it."""
    height, width = image.shape[:2]
    inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return inside
    canvas = np.zeros((y2 - y1, x2 - x1, 3), np.float32)
    top, left = max(-y1, 0), max(-x1, 0)
    canvas[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return canvas
