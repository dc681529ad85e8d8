"""The upright square around a box: where its pixels come from and where its points go back to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_engine.core.types import BoundingBox, Image
from compreface_engine.plugins.square_crop import SquareCrop
from tests.engine import face_networks as fn

boxes = st.builds(
    lambda x, y, w, h: BoundingBox(x, y, x + w, y + h, 1.0),
    *(st.integers(-3000, 3000), st.integers(-3000, 3000)),
    *(st.integers(0, 2000), st.integers(0, 2000)),
)


@given(boxes, st.booleans(), st.sampled_from([96, 192]))
def test_points_go_there_and_back(box: BoundingBox, whole: bool, size: int) -> None:
    cut = SquareCrop(size, whole_centre=whole)
    points = np.array([(0, 0), (size, size / 3), (17.25, 5)])
    matrix = cut.matrix(box)
    there = cut.to_image(points, box) @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(there, points, atol=1e-6)


@given(boxes)
def test_the_square_is_half_as_large_again_as_the_box_and_around_its_centre(
    box: BoundingBox,
) -> None:
    ((left, top), (right, bottom)) = SquareCrop(96).to_image(
        np.array([(0.0, 0.0), (96.0, 96.0)]), box
    )
    longer = max(box.x_max - box.x_min, box.y_max - box.y_min, 1)
    assert (right - left, bottom - top) == pytest.approx((1.5 * longer, 1.5 * longer))
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx(
        ((box.x_min + box.x_max) / 2, (box.y_min + box.y_max) / 2), abs=1e-6
    )


@pytest.mark.parametrize(("x", "whole", "middle"), [(-4, True, 8), (-5, True, 7), (-5, False, 7.5)])
def test_the_centre_may_be_rounded_down(x: int, whole: bool, middle: float) -> None:
    box = BoundingBox(x, 0, 20, 10, 1.0)
    (point,) = SquareCrop(192, whole_centre=whole).to_image(np.array([(96.0, 96.0)]), box)
    assert point.tolist() == pytest.approx([middle, 5])


def _pixel(image: Image, x: float, y: float) -> list[float]:
    """Bilinear, black outside, value by value."""
    left, top = math.floor(x), math.floor(y)
    total = np.zeros(3)
    for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = (1 - abs(x - left - column)) * (1 - abs(y - top - row))
        if 0 <= left + column < image.shape[1] and 0 <= top + row < image.shape[0]:
            total += weight * image[top + row, left + column]
    return list(total)


@pytest.mark.parametrize("box", [(20, 30, 61, 77), (-8, -3, 40, 30), (70, 50, 130, 119)])
def test_pixels_are_those_of_a_slow_resampling(box: tuple[int, int, int, int]) -> None:
    image = fn.smooth(100, 120)
    crop = SquareCrop(24)(fn.face(image, box))
    assert crop.dtype == np.uint8
    x_min, y_min, x_max, y_max = box
    step = 1.5 * max(x_max - x_min, y_max - y_min) / 24
    for row in range(24):
        for column in range(24):
            x = (x_min + x_max) / 2 + (column - 12) * step
            y = (y_min + y_max) / 2 + (row - 12) * step
            inside = 0 <= x <= 119 and 0 <= y <= 99
            outside = not (-1 < x < 120 and -1 < y < 100)
            if inside or outside:  # a pixel on the border is darkened by as much as it is outside
                assert crop[row, column] == pytest.approx(_pixel(image, x, y), abs=4)


def test_a_box_without_area_and_one_outside_the_image_have_a_crop_too() -> None:
    image = fn.smooth(40, 40)
    assert SquareCrop(16)(fn.face(image, (7, 7, 7, 7))).shape == (16, 16, 3)
    assert not SquareCrop(16)(fn.face(image, (500, 500, 540, 540))).any()
