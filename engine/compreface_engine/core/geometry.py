"""Geometry of pictures: scaling, cropping and alignment, and the coordinates that go with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.types import BoundingBox, Image, Landmarks

# The ArcFace template: five points in a 112 x 112 px crop (insightface, MIT).
ARCFACE_TEMPLATE: NDArray[np.float64] = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
_TEMPLATE_SIDE = 112


@dataclass(frozen=True, slots=True)
class Scaled:
    """An image for detection; `coefficient` is its size divided by the original's."""

    image: Image
    coefficient: float

    def box_to_original(self, x1: int, y1: int, x2: int, y2: int, score: float) -> BoundingBox:
        """A box in pixels of the original, each coordinate truncated toward zero."""
        back = 1 / self.coefficient
        return BoundingBox(int(x1 * back), int(y1 * back), int(x2 * back), int(y2 * back), score)


def scale_down(image: Image, limit: int) -> Scaled:
    """`image` with its longer side at most `limit` pixels (0: never scaled), by area averages."""
    height, width = image.shape[:2]
    if not limit or (width <= limit and height <= limit):
        return Scaled(image, 1)
    c = limit / max(width, height)
    size = (max(1, round(width * c)), max(1, round(height * c)))
    return Scaled(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), c)


def similarity_matrix(
    source: NDArray[np.floating[Any]], target: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """The [2, 3] similarity that maps `source` [N, 2] onto `target` [N, 2] by least squares.

    The solution of Umeyama (1991), which in a plane is one complex division. Raises ValueError
    where all source points coincide, since no scale fits them.
    """
    src = source[:, 0].astype(np.float64) + 1j * source[:, 1]
    dst = target[:, 0].astype(np.float64) + 1j * target[:, 1]
    src_mean, dst_mean = src.mean(), dst.mean()
    src = src - src_mean
    spread = float((src.real**2 + src.imag**2).sum())
    if not spread > 0:
        raise ValueError("the points to align coincide")
    factor = (src.conj() * (dst - dst_mean)).sum() / spread
    shift = dst_mean - factor * src_mean
    return np.array(
        [[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]]
    )


def aligned_crop(image: Image, landmarks: Landmarks, size: int) -> Image:
    """The face as a `size` px crop with its landmarks on the ArcFace template; uint8, RGB.

    Bilinear; black outside the image, and all black where the landmarks coincide.
    """
    if not np.ptp(landmarks, axis=0).any():
        return np.zeros((size, size, 3), np.uint8)
    matrix = similarity_matrix(landmarks, ARCFACE_TEMPLATE * (size / _TEMPLATE_SIDE))
    return np.asarray(cv2.warpAffine(image, matrix, (size, size)), np.uint8)


def shrinking_warp(
    image: Image, matrix: NDArray[np.float64], size: int, *, most: float = 1.0
) -> Image:
    """`image` under a similarity `matrix` as a `size` px crop, black outside; uint8, RGB.

    Where a pixel of the crop covers more than `most` pixels of the image (a side), the visible part
    is first shrunk to the crop's scale by area averages, so that bilinear sampling skips no pixel.
    """
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    if scale * most >= 1:
        return np.asarray(cv2.warpAffine(image, matrix, (size, size)), np.uint8)
    corners = np.array([(0, 0), (size, 0), (0, size), (size, size)], np.float64)
    inverse = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
    shown = corners @ inverse[:, :2].T + inverse[:, 2]
    height, width = image.shape[:2]
    # Two shrunk pixels more on each side, since interpolation at the crop's border needs them.
    lower, upper = np.floor(shown.min(axis=0) - 2 / scale), np.ceil(shown.max(axis=0) + 2 / scale)
    left, top = np.clip(lower, 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(upper, 1, (width, height)).astype(int)
    part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    small = (max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale)))
    shrunk = cv2.resize(part, small, interpolation=cv2.INTER_AREA)
    # Pixel p of the shrunk part is pixel (p + 0.5) * ratio - 0.5 + corner of the image.
    ratio = np.array([part.shape[1] / small[0], part.shape[0] / small[1]])
    shift = ratio / 2 - 0.5 + (left, top)
    placed = np.hstack((matrix[:, :2] * ratio, (matrix[:, :2] @ shift + matrix[:, 2])[:, None]))
    return np.asarray(cv2.warpAffine(shrunk, placed, (size, size)), np.uint8)


def whole_crop(image: Image, size: int) -> Image:
    """The whole picture as a `size` x `size` px crop, its aspect ratio not kept; uint8, RGB."""
    smaller = image.shape[0] >= size and image.shape[1] >= size
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), np.uint8)


def squared_crop(image: Image, box: BoundingBox, size: int) -> Image:
    """The box of `image` as a `size` px crop with black bars along its shorter side; uint8, RGB.

    The aspect ratio is kept. The part of the box outside the image is cut off; a box that lies
    outside it is black.
    """
    crop = np.zeros((size, size, 3), np.uint8)
    part = image[max(0, box.y_min) : max(0, box.y_max), max(0, box.x_min) : max(0, box.x_max)]
    if not part.size:
        return crop
    longer = max(part.shape[:2])
    # Scaled before it is padded: the square around a very long box could exhaust the memory.
    height, width = (max(1, round(side * size / longer)) for side in part.shape[:2])
    how = cv2.INTER_AREA if longer > size else cv2.INTER_LINEAR
    top, left = (size - height) // 2, (size - width) // 2
    crop[top : top + height, left : left + width] = cv2.resize(
        part, (width, height), interpolation=how
    )
    return crop


@lru_cache(maxsize=256)
def _taps(length: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """For each of `size` samples the lower and upper source index, and the upper one's weight.

    Half-pixel centres; indices outside are mirrored without repeating the edge.
    """
    where = (np.arange(size) + 0.5) * (length / size) - 0.5
    lower = np.floor(where)
    low = _mirror(lower.astype(np.intp), length)
    return low, _mirror(lower.astype(np.intp) + 1, length), where - lower


def _mirror(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Indices folded into 0..length-1, edges not repeated (scipy's `mirror`)."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.abs(index) % period
    return np.where(folded < length, folded, period - folded)


def _blur(
    pixels: NDArray[np.uint8], size: int, at: NDArray[np.intp], axis: int
) -> NDArray[np.uint8]:
    """Rows (`axis` 0) or columns (1) `at` of the blurred picture, truncated to whole grey levels.

    The anti-aliasing of scikit-image 0.17: a Gaussian of (shrinkage - 1) / 2, cut at four
    deviations, summed in scipy's order because the result is truncated to uint8.
    """
    length = pixels.shape[axis]
    sigma = max(0.0, (length / size - 1) / 2)
    if sigma <= 1e-15:
        return np.asarray(np.take(pixels, at, axis), np.uint8)
    radius = int(4 * sigma + 0.5)
    steps = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / (sigma * sigma) * steps**2)
    weights /= weights.sum()
    total = np.take(pixels, at, axis) * weights[radius]
    for step in range(radius, 0, -1):
        below = np.take(pixels, _mirror(at - step, length), axis).astype(np.uint16)
        below += np.take(pixels, _mirror(at + step, length), axis)
        total += below * weights[radius - step]
    return np.asarray(total.astype(np.uint8), np.uint8)


def facenet_crop(image: Image, box: BoundingBox, size: int) -> NDArray[np.float64]:
    """The box of `image` as FaceNet's input: float64 [size, size, 3], RGB, 0..1.

    Equal to scikit-image 0.17's `resize` of a uint8 array, the truncation after each pass of the
    blur included. Only the rows and columns that the samples use are blurred. The aspect ratio is
    not kept. A box outside the image is black; RetinaFace does not clip boxes at the border.
    """
    x_min, y_min, x_max, y_max = (
        max(0, value) for value in (box.x_min, box.y_min, box.x_max, box.y_max)
    )
    part = image[y_min:y_max, x_min:x_max]
    height, width = part.shape[:2]
    if not height or not width:
        return np.zeros((size, size, 3))
    top, bottom, down = _taps(height, size)
    left, right, across = _taps(width, size)
    rows = _blur(part, size, np.concatenate((top, bottom)), 0)
    if width > size:
        grid = _blur(rows, size, np.concatenate((left, right)), 1)
        mixed = _between(grid[:size], grid[size:], down[:, None, None])
        near, far = mixed[:, :size], mixed[:, size:]
    else:  # without a blur, fewer columns have to be mixed
        mixed = _between(rows[:size], rows[size:], down[:, None, None])
        near, far = np.take(mixed, left, 1), np.take(mixed, right, 1)
    crop = _between(near, far, across[:, None])
    crop *= 1 / 255
    return crop


def _between(
    near: NDArray[Any], far: NDArray[Any], share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`near` + (`far` - `near`) * `share`, in float64."""
    mixed: NDArray[np.float64] = far.astype(np.float64)
    mixed -= near
    mixed *= share
    mixed += near
    return mixed


def truncated_points(landmarks: Landmarks) -> list[tuple[int, int]]:
    """Landmarks as whole pixels, truncated toward zero."""
    return [(math.trunc(x), math.trunc(y)) for x, y in landmarks.tolist()]
