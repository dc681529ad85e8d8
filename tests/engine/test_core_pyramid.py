"""Shrinking by summed areas against OpenCV's averages and against plain arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compreface_engine.core import pyramid
from compreface_engine.core.pyramid import Pyramid
from compreface_engine.core.types import Image


def _grain(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(20, 200),
    width=st.integers(20, 200),
    shrink=st.floats(1.0, 16.0),
    seed=st.integers(0, 99),
)
def test_every_size_equals_opencvs_up_to_rounding(
    height: int, width: int, shrink: float, seed: int
) -> None:
    image = _grain(height, width, seed)
    size = math.ceil(width / shrink), math.ceil(height / shrink)
    got = Pyramid(image).shrunk(*size)
    expected = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    assert got.dtype == np.uint8
    difference = np.abs(got.astype(int) - expected)
    assert difference.max() <= 1
    for row, column, channel in np.argwhere(difference):
        exact = _exact(image, int(row), int(column), *size, int(channel))
        assert abs(exact - math.floor(exact) - Fraction(1, 2)) < Fraction(1, 100)  # a tie


def _covered(index: int, side: Fraction) -> list[tuple[int, Fraction]]:
    """The pixels that part `index` of length `side` covers, and how much of each."""
    start, end = index * side, (index + 1) * side
    pixels = range(math.floor(start), math.ceil(end))
    return [(at, min(Fraction(at + 1), end) - max(Fraction(at), start)) for at in pixels]


def _exact(
    image: Image, row: int, column: int, width: int, height: int, channel: int = 0
) -> Fraction:
    """One channel of one pixel of the shrunk picture, in fractions."""
    tall, wide = Fraction(image.shape[0], height), Fraction(image.shape[1], width)
    total = Fraction(0)
    for y, part_y in _covered(row, tall):
        for x, part_x in _covered(column, wide):
            total += part_y * part_x * int(image[y, x, channel])
    return total / (tall * wide)


def test_each_pixel_is_the_mean_of_the_area_it_covers() -> None:
    image = _grain(53, 41)
    got = Pyramid(image).shrunk(7, 11)
    for row in range(11):
        for column in range(7):
            exact = _exact(image, row, column, 7, 11)
            assert abs(int(got[row, column, 0]) - exact) <= Fraction(500001, 1000000)


@pytest.mark.parametrize("colour", [0, 1, 127, 255])
def test_a_plain_picture_keeps_its_colour(colour: int) -> None:
    image = np.full((301, 217, 3), colour, np.uint8)
    assert np.unique(Pyramid(image).shrunk(31, 43)).tolist() == [colour]


def test_pictures_too_large_for_32_bit_sums_are_shrunk_correctly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = _grain(160, 120)
    expected = Pyramid(image).shrunk(12, 16)
    monkeypatch.setattr(pyramid, "_INT32_PIXELS", 100)
    assert np.array_equal(Pyramid(image).shrunk(12, 16), expected)
