"""Shrinks one picture to many sizes, each by area averages of the full picture."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.types import Image

_INT32_PIXELS = (2**31 - 1) // 255  # sums of more would overflow
_FEW_ROWS = 4  # up to a quarter of the height, sums are faster than OpenCV's averages


class Pyramid:
    """One RGB picture that can be shrunk to any size, as by OpenCV's `INTER_AREA`.

    OpenCV reads every pixel of the picture for every size. For small sizes this looks up sums of
    rectangles instead; one pixel in a hundred thousand is rounded the other way.
    """

    def __init__(self, image: Image) -> None:
        self._image = image

    def shrunk(self, width: int, height: int) -> Image:
        """The picture at `width` x `height` px, which do not exceed its own; uint8, RGB."""
        if height * _FEW_ROWS > self._image.shape[0]:
            small = cv2.resize(self._image, (width, height), interpolation=cv2.INTER_AREA)
            return np.asarray(small, np.uint8)
        rows, columns = self._image.shape[:2]
        row, row_part = _edges(rows, height)
        column, column_part = _edges(columns, width)
        strips = np.diff(_between(self._sums, row, row_part[:, None, None], axis=0), axis=0)
        areas = np.diff(_between(strips, column, column_part[:, None], axis=1), axis=1)
        areas *= (height / rows) * (width / columns)
        return np.rint(areas, out=areas).astype(np.uint8)

    @cached_property
    def _sums(self) -> NDArray[Any]:
        """[H + 1, W + 1, 3]: the sums of all pixels above and to the left."""
        many = self._image.shape[0] * self._image.shape[1] > _INT32_PIXELS
        return np.asarray(cv2.integral(self._image, sdepth=cv2.CV_64F if many else cv2.CV_32S))


def _edges(length: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The `size` + 1 edges that divide `length` equally: whole pixels, and their fractions."""
    where = np.arange(size + 1, dtype=np.float64) * (length / size)
    whole = np.minimum(where.astype(np.intp), length - 1)
    return whole, np.asarray(where - whole, np.float64)


def _between(
    values: NDArray[Any], at: NDArray[np.intp], part: NDArray[np.float64], *, axis: int
) -> NDArray[np.float64]:
    """`values` at `at` + `part` along `axis`, interpolated linearly."""
    lower = np.take(values, at, axis)
    step = np.take(values, at + 1, axis) - lower
    mixed: NDArray[np.float64] = step * part
    mixed += lower
    return mixed
