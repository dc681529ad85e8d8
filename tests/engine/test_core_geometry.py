"""Scaling, cropping and alignment against plain implementations of their rules."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compreface_engine.core.geometry import (
    ARCFACE_TEMPLATE,
    Scaled,
    aligned_crop,
    facenet_crop,
    scale_down,
    shrinking_warp,
    similarity_matrix,
    squared_crop,
    truncated_points,
    whole_crop,
)
from compreface_engine.core.types import BoundingBox, Image


def _grain(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _box(x1: int, y1: int, x2: int, y2: int) -> BoundingBox:
    return BoundingBox(x1, y1, x2, y2, 1.0)


@pytest.mark.parametrize("limit", [0, 40, 100])
def test_a_picture_within_the_limit_is_not_scaled(limit: int) -> None:
    image = _grain(30, 40)
    scaled = scale_down(image, limit)
    assert scaled.image is image
    assert scaled.coefficient == 1


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), limit=st.integers(1, 200))
def test_scaling_down_rounds_sides_half_to_even_and_to_at_least_1(
    height: int, width: int, limit: int
) -> None:
    assume(max(height, width) > limit)
    scaled = scale_down(np.zeros((height, width, 3), np.uint8), limit)
    c = limit / max(height, width)
    assert scaled.coefficient == c
    assert scaled.image.shape == (max(1, round(height * c)), max(1, round(width * c)), 3)


def test_scaling_down_averages_areas() -> None:
    image = _grain(200, 400)
    expected = cv2.resize(image, (100, 50), interpolation=cv2.INTER_AREA)
    assert np.array_equal(scale_down(image, 100).image, expected)


def test_boxes_are_scaled_back_and_truncated_toward_zero() -> None:
    scaled = Scaled(_grain(1, 1), 640 / 819)
    box = scaled.box_to_original(11, 12, 101, 102, 0.5)
    assert box == BoundingBox(14, 15, 129, 130, 0.5)
    assert scaled.box_to_original(-1, 0, 1, 1, 0.5).x_min == -1


_COORDINATE = st.floats(-500, 500, allow_nan=False)
_POINTS = st.lists(st.tuples(_COORDINATE, _COORDINATE), min_size=5, max_size=5)


@given(
    points=_POINTS,
    scale=st.floats(0.1, 10),
    angle=st.floats(-math.pi, math.pi),
    shift=st.tuples(_COORDINATE, _COORDINATE),
)
def test_a_similarity_is_recovered_from_the_points_it_moved(
    points: list[tuple[float, float]], scale: float, angle: float, shift: tuple[float, float]
) -> None:
    source = np.array(points)
    assume(np.ptp(source, axis=0).max() > 1)
    turn = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    matrix = similarity_matrix(source, source @ turn.T + shift)
    assert np.allclose(matrix[:, :2], turn, atol=1e-7)
    assert np.allclose(matrix[:, 2], shift, atol=1e-4)


@given(points=_POINTS)
def test_the_similarity_is_the_least_squares_optimum(points: list[tuple[float, float]]) -> None:
    source = np.array(points)
    assume(np.ptp(source, axis=0).max() > 1)
    matrix = similarity_matrix(source, ARCFACE_TEMPLATE)

    def miss(a: float, b: float, x: float, y: float) -> float:
        moved = source @ np.array([[a, -b], [b, a]]).T + (x, y)
        return float(((moved - ARCFACE_TEMPLATE) ** 2).sum())

    a, b = matrix[0, 0], matrix[1, 0]
    x, y = matrix[:, 2]
    best = miss(a, b, x, y) - 1e-6
    for nudge in (-1e-3, 1e-3):
        assert miss(a + nudge, b, x, y) >= best
        assert miss(a, b + nudge, x, y) >= best
        assert miss(a, b, x + nudge, y) >= best
        assert miss(a, b, x, y + nudge) >= best


def test_points_that_coincide_cannot_be_aligned() -> None:
    with pytest.raises(ValueError, match="points"):
        similarity_matrix(np.full((5, 2), 7.0), ARCFACE_TEMPLATE)


def test_coinciding_landmarks_give_a_black_crop() -> None:
    image = np.full((50, 60, 3), 200, np.uint8)
    crop = aligned_crop(image, np.full((5, 2), 20.0), 112)
    assert crop.shape == (112, 112, 3)
    assert not crop.any()


def test_an_aligned_crop_puts_the_landmarks_on_the_template() -> None:
    image = np.zeros((400, 300, 3), np.uint8)
    landmarks = ARCFACE_TEMPLATE * 2 + (30, 50)
    for x, y in landmarks:
        image[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4] = 255
    crop = aligned_crop(image, landmarks, 112)
    assert crop.shape == (112, 112, 3)
    for x, y in ARCFACE_TEMPLATE:
        assert crop[round(y), round(x)].min() > 200


def test_an_aligned_crop_is_black_outside_the_picture_and_scales_with_its_size() -> None:
    white = np.full((100, 100, 3), 255, np.uint8)
    crop = aligned_crop(white, ARCFACE_TEMPLATE - 40, 224)
    assert crop.shape == (224, 224, 3)
    assert crop[0, 0].max() == 0
    assert crop[200, 200].min() == 255


@pytest.mark.parametrize(("height", "width"), [(300, 200), (40, 60), (112, 112), (50, 400)])
def test_a_whole_crop_is_a_square(height: int, width: int) -> None:
    image = np.full((height, width, 3), 90, np.uint8)
    crop = whole_crop(image, 112)
    assert crop.shape == (112, 112, 3)
    assert np.unique(crop).tolist() == [90]


def _mirrored(index: int, length: int) -> int:
    while not 0 <= index < length:
        index = -index if index < 0 else 2 * (length - 1) - index
    return index


def _blurred(line: list[int], sigma: float) -> list[int]:
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    weights = weights / weights.sum()
    out = []
    for at in range(len(line)):
        total = line[at] * weights[radius]
        for step in range(-radius, 0):
            both = line[_mirrored(at + step, len(line))] + line[_mirrored(at - step, len(line))]
            total += both * weights[radius + step]
        out.append(int(total))
    return out


def _plain_facenet(plane: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """Section 12.3 of the contract for one channel, pixel by pixel."""
    picture = plane.astype(int).tolist()
    height, width = plane.shape
    if (sigma := (height / size - 1) / 2) > 0:
        columns = [_blurred(list(column), sigma) for column in zip(*picture, strict=True)]
        picture = [list(row) for row in zip(*columns, strict=True)]
    if (sigma := (width / size - 1) / 2) > 0:
        picture = [_blurred(row, sigma) for row in picture]
    out = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            y, x = (i + 0.5) * height / size - 0.5, (j + 0.5) * width / size - 0.5
            top, left = math.floor(y), math.floor(x)
            value = 0.0
            for dy in (0, 1):
                for dx in (0, 1):
                    pixel = picture[_mirrored(top + dy, height)][_mirrored(left + dx, width)]
                    weight = abs(1 - dy - (y - top)) * abs(1 - dx - (x - left))
                    value += pixel * weight
            out[i, j] = value / 255
    return out


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    size=st.integers(2, 16),
    seed=st.integers(0, 1000),
)
def test_a_facenet_crop_follows_the_contract_pixel_by_pixel(
    height: int, width: int, size: int, seed: int
) -> None:
    image = _grain(height, width, seed)
    crop = facenet_crop(image, _box(0, 0, width, height), size)
    assert crop.dtype == np.float64
    for channel in range(3):
        assert np.allclose(crop[..., channel], _plain_facenet(image[..., channel], size), atol=1e-9)


def test_a_facenet_crop_is_clipped_to_the_picture() -> None:
    image = _grain(30, 40)
    outside = facenet_crop(image, _box(-5, -5, 20, 50), 8)
    assert np.array_equal(outside, facenet_crop(image, _box(0, 0, 20, 30), 8))


def test_a_box_of_one_pixel_gives_a_flat_crop() -> None:
    image = _grain(5, 5)
    crop = facenet_crop(image, _box(2, 3, 3, 4), 4)
    assert np.allclose(crop, image[3, 2] / 255)


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (50, 0, 60, 9), (-30, 0, -4, 9), (0, -30, 9, -4), (9, 9, 5, 5)]
)
def test_a_box_without_pixels_is_black(box: tuple[int, int, int, int]) -> None:
    assert np.array_equal(facenet_crop(_grain(20, 20), _box(*box), 8), np.zeros((8, 8, 3)))


def test_points_are_truncated_toward_zero() -> None:
    points = np.array([[1.9, -1.9], [0.5, -0.5]])
    assert truncated_points(points) == [(1, -1), (0, 0)]


def _scaled_to(scale: float, x: float, y: float) -> NDArray[np.float64]:
    return np.array([[scale, 0.0, x], [0.0, scale, y]])


@pytest.mark.parametrize(
    ("scale", "most", "averaged"), [(0.9, 1.0, True), (0.6, 2.0, False), (0.4, 2.0, True)]
)
def test_a_warp_averages_areas_where_bilinear_sampling_would_skip_pixels(
    scale: float, most: float, averaged: bool
) -> None:
    image, matrix = _grain(300, 300), _scaled_to(scale, -20.5, -10.25)
    plain = np.asarray(cv2.warpAffine(image, matrix, (64, 64)))
    crop = shrinking_warp(image, matrix, 64, most=most)
    assert crop.shape == (64, 64, 3)
    assert np.array_equal(crop, plain) is not averaged
    if averaged:
        assert crop.std() < plain.std() * 0.9


def test_a_warp_outside_the_picture_is_black() -> None:
    assert not shrinking_warp(_grain(90, 80), _scaled_to(0.1, 900, 900), 32).any()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    size=st.sampled_from([8, 32, 112]),
)
def test_a_squared_crop_keeps_the_shape_of_the_box_between_black_bars(
    height: int, width: int, size: int
) -> None:
    image = np.full((height + 20, width + 30, 3), 200, np.uint8)
    crop = squared_crop(image, _box(10, 5, 10 + width, 5 + height), size)
    assert crop.shape == (size, size, 3)
    assert set(np.unique(crop)) <= {0, 200}
    rows, columns = crop[..., 0].any(axis=1), crop[..., 0].any(axis=0)
    assert max(rows.sum(), columns.sum()) == size
    longer = max(height, width)
    assert rows.sum() == max(1, round(height * size / longer))
    assert columns.sum() == max(1, round(width * size / longer))
    for line in (rows, columns):  # in the middle, but for an odd pixel
        before = int(line.argmax())
        assert size - line.sum() - before in (before, before + 1)


@pytest.mark.parametrize("box", [(-50, -60, 40, 30), (60, 20, 300, 400), (-5, -5, 200, 300)])
def test_a_squared_crop_is_clipped_to_the_picture(
    box: tuple[int, int, int, int],
) -> None:
    image = _grain(100, 80)
    x1, y1, x2, y2 = box
    inside = _box(max(0, x1), max(0, y1), min(80, x2), min(100, y2))
    assert np.array_equal(squared_crop(image, _box(*box), 64), squared_crop(image, inside, 64))


@pytest.mark.parametrize(
    "box", [(80, 0, 90, 20), (-30, -30, -1, -1), (10, 10, 10, 50), (9, 9, 3, 3)]
)
def test_a_squared_crop_outside_the_picture_is_black(box: tuple[int, int, int, int]) -> None:
    assert not squared_crop(_grain(100, 80), _box(*box), 16).any()


def test_a_squared_crop_of_a_line_needs_little_memory() -> None:
    image = np.full((1, 60_000_000, 3), 90, np.uint8)
    crop = squared_crop(image, _box(0, 0, 60_000_000, 1), 32)
    assert crop[..., 0].any(axis=1).sum() == 1
