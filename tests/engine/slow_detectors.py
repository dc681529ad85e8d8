"""Reference implementations of detectors, cell by cell, for comparison with the fast ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.types import Detection

Maps = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class SlowFace:
    score: float
    box: tuple[float, ...]
    points: tuple[tuple[float, float], ...]


class Maker:
    """A session that makes its outputs from the size of what it is fed; `fed` holds the tensors."""

    inputs: tuple[str, ...] = ("data",)

    def __init__(self, make: Any, count: int) -> None:
        self._make = make
        self.outputs = tuple(f"output{index}" for index in range(count))
        self.fed: list[NDArray[Any]] = []

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        (tensor,) = feeds.values()
        self.fed.append(tensor)
        made = dict(zip(self.outputs, self._make(*tensor.shape[2:]), strict=True))
        return [made[name] for name in outputs or self.outputs]


def retinaface(maps: Maps, threshold: float) -> list[SlowFace]:
    """Contract section 13.2, without its last truncation."""
    faces = []
    for index, (stride, sizes) in enumerate(((32, (512, 256)), (16, (128, 64)), (8, (32, 16)))):
        scores, deltas, marks = (array[0] for array in maps[3 * index : 3 * index + 3])
        for row in range(scores.shape[1]):
            for column in range(scores.shape[2]):
                for anchor, size in enumerate(sizes):
                    score = float(scores[2 + anchor, row, column])
                    if score <= threshold:
                        continue
                    x1 = 7.5 - (size - 1) / 2 + column * stride
                    y1 = 7.5 - (size - 1) / 2 + row * stride
                    x2, y2 = x1 + size - 1, y1 + size - 1
                    width, height = x2 - x1 + 1, y2 - y1 + 1
                    centre_x, centre_y = x1 + 0.5 * (width - 1), y1 + 0.5 * (height - 1)
                    dx, dy, dw, dh = (float(deltas[4 * anchor + k, row, column]) for k in range(4))
                    x, y = dx * width + centre_x, dy * height + centre_y
                    w, h = math.exp(dw) * width, math.exp(dh) * height
                    points = []
                    for k in range(5):
                        mx = float(marks[10 * anchor + 2 * k, row, column])
                        my = float(marks[10 * anchor + 2 * k + 1, row, column])
                        points.append((mx * width + centre_x, my * height + centre_y))
                    corners = (
                        x - 0.5 * (w - 1),
                        y - 0.5 * (h - 1),
                        x + 0.5 * (w - 1),
                        y + 0.5 * (h - 1),
                    )
                    faces.append(SlowFace(score, corners, tuple(points)))
    return faces


def scrfd(maps: Maps, size: tuple[int, int], threshold: float) -> list[SlowFace]:
    """Nine outputs, scores first, then distances, then points; strides 8, 16, 32."""
    faces = []
    for index, stride in enumerate((8, 16, 32)):
        scores, distances, marks = (
            maps[group * 3 + index].reshape(-1, width) for group, width in enumerate((1, 4, 10))
        )
        row = 0
        for y in range(size[0] // stride):
            for x in range(size[1] // stride):
                for _ in range(2):
                    left, top, right, bottom = (float(v) * stride for v in distances[row])
                    cx, cy = x * stride, y * stride
                    mark = [float(v) * stride for v in marks[row]]
                    points = tuple((cx + mark[2 * k], cy + mark[2 * k + 1]) for k in range(5))
                    if float(scores[row, 0]) > threshold:
                        box = (cx - left, cy - top, cx + right, cy + bottom)
                        faces.append(SlowFace(float(scores[row, 0]), box, points))
                    row += 1
    return faces


def yunet(maps: Maps, size: tuple[int, int], threshold: float) -> list[SlowFace]:
    """Twelve outputs: class, object, box, points; strides 8, 16, 32 each."""
    faces = []
    for index, stride in enumerate((8, 16, 32)):
        kinds = [
            maps[group * 3 + index].reshape(-1, width) for group, width in enumerate((1, 1, 4, 10))
        ]
        row = 0
        for y in range(size[0] // stride):
            for x in range(size[1] // stride):
                class_score, object_score = (
                    min(max(float(kinds[k][row, 0]), 0.0), 1.0) for k in (0, 1)
                )
                score = math.sqrt(class_score * object_score)
                dx, dy, dw, dh = (float(v) for v in kinds[2][row])
                cx, cy = (x + dx) * stride, (y + dy) * stride
                w, h = math.exp(dw) * stride, math.exp(dh) * stride
                mark = [float(v) for v in kinds[3][row]]
                points = tuple(
                    ((mark[2 * k] + x) * stride, (mark[2 * k + 1] + y) * stride) for k in range(5)
                )
                if score > threshold:
                    box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                    faces.append(SlowFace(score, box, points))
                row += 1
    return faces


def greedy(faces: Sequence[SlowFace], overlap: float) -> list[SlowFace] | None:
    """The best of those that overlap too much; None where rounding could decide."""
    kept: list[SlowFace] = []
    for face in sorted(faces, key=lambda face: -face.score):  # stable: the first of equal ones
        shares = [_overlap(face.box, object_score.box) for object_score in kept]
        if any(abs(share - overlap) < 1e-4 for share in shares):
            return None
        if all(share <= overlap for share in shares):
            kept.append(face)
    return kept


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    both = max(0.0, width) * max(0.0, height)
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return both / (sum(areas) - both)


def assert_same(
    detections: Sequence[Detection],
    expected: Sequence[SlowFace],
    *,
    coefficient: float = 1,
    border: tuple[int, int] | None = None,
) -> None:
    """Same faces in the same order; boxes truncated twice, and cut at the (height, width) given."""
    assert len(detections) == len(expected)
    for detection, face in zip(detections, expected, strict=True):
        box = detection.box
        assert abs(box.probability - face.score) < 1e-6
        corners = list(face.box)
        if border is not None:
            limits = (border[1], border[0]) * 2
            corners = [min(max(v, 0), limit) for v, limit in zip(corners, limits, strict=True)]
        for value, exact in zip((box.x_min, box.y_min, box.x_max, box.y_max), corners, strict=True):
            allowed = {int(int(exact + shift) / coefficient) for shift in (-1e-3, 0, 1e-3)}
            assert value in allowed
        assert detection.landmarks is not None
        points = np.array(face.points) / coefficient
        assert np.allclose(detection.landmarks, points, rtol=1e-5, atol=1e-3)
