"""106 landmarks: what the network sees of a box, and where its points lie in the picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.square_crop import SquareCrop
from tests.engine import face_networks as fn

_MIDDLES = [0.0] * 212


@pytest.fixture(scope="module")
def upstreams(tmp_path_factory: pytest.TempPathFactory) -> fn.Made:
    folder = tmp_path_factory.mktemp("models")
    fn.describe(folder, "2d106det", size=192)
    network = fn.Network(fn.constant(_MIDDLES))
    return network, fn.analyzer("insightface.Landmarks2d106Detector", folder, network)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> fn.Made:
    folder = tmp_path_factory.mktemp("models")
    fn.describe(folder, "mine", size=192, mean=127.5, scale=128)
    network = fn.Network(fn.constant(_MIDDLES))
    return network, fn.analyzer("landmarks2d106.Landmarks2d106Detector@mine", folder, network)


def _face(box: tuple[int, int, int, int]) -> FaceContext:
    return fn.face(fn.smooth(80, 100), box)


def test_the_answer_is_the_key_of_the_five_points_under_a_slug_of_its_own(
    upstreams: fn.Made, ours: fn.Made
) -> None:
    for _, plugin in (upstreams, ours):
        assert (plugin.slug, plugin.key) == ("landmarks2d106", "landmarks")
        assert plugin.crop is None
        assert not plugin.needs_landmarks


def test_upstreams_network_sees_rgb_as_it_is_around_the_whole_centre(upstreams: fn.Made) -> None:
    network, plugin = upstreams
    network.fed.clear()
    face = _face((11, 20, 60, 59))
    fn.answers(plugin, [face])
    expected = SquareCrop(192, whole_centre=True)(face)
    assert np.array_equal(network.fed[0][0], expected.transpose(2, 0, 1))
    assert not np.array_equal(expected, SquareCrop(192)(face))


def test_ours_sees_what_its_model_describes_around_the_exact_centre(ours: fn.Made) -> None:
    network, plugin = ours
    network.fed.clear()
    face = _face((11, 20, 60, 59))
    fn.answers(plugin, [face])
    expected = (SquareCrop(192)(face).astype(np.float32) - 127.5) / 128
    assert np.allclose(network.fed[0][0], expected.transpose(2, 0, 1), atol=1e-6)


def _literally(row: NDArray[np.float32], box: tuple[int, int, int, int]) -> list[list[int]]:
    """Point by point, as contract section 13.7 has it."""
    x_min, y_min, x_max, y_max = box
    scale = 128 / max(x_max - x_min, y_max - y_min)
    x, y = (x_min + x_max) // 2, (y_min + y_max) // 2
    points = []
    for point in range(106):
        across = (float(row[2 * point]) + 1) * 96
        down = (float(row[2 * point + 1]) + 1) * 96
        points.append([(across - 96) / scale + x, (down - 96) / scale + y])
    return [[math.trunc(value) for value in point] for point in points]


@given(
    arrays(np.float32, 212, elements=st.integers(-2000, 2000).map(lambda v: v / 1024 + 2**-12)),
    st.tuples(st.integers(-50, 3000), st.integers(-50, 3000)),
    st.tuples(st.integers(20, 1500), st.integers(20, 1500)),
)
def test_points_lie_where_the_contract_puts_them(
    upstreams: fn.Made, row: NDArray[np.float32], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    network, plugin = upstreams
    network.compute = fn.constant(row.tolist())
    box = (*corner, corner[0] + size[0], corner[1] + size[1])
    (found,) = fn.answers(plugin, [_face(box)])
    expected = np.array(_literally(row, box))
    difference = np.abs(np.array(found) - expected)
    assert difference.max() <= 1  # where float32 rounds over a whole pixel
    assert (difference == 0).mean() > 0.97
    assert all(type(value) is int for point in found for value in point)


def test_points_outside_the_picture_are_cut_toward_zero(upstreams: fn.Made) -> None:
    network, plugin = upstreams
    network.compute = fn.constant([-1.0, 1.0] * 106)
    (found,) = fn.answers(plugin, [_face((-3, 20, 38, 60))])
    # Centre (17, 40), 41 px wide: half the square is 30.75 px.
    assert found == [[-13, 70]] * 106


def test_faces_of_a_picture_keep_their_own_points(upstreams: fn.Made) -> None:
    network, plugin = upstreams
    network.compute = lambda batch: np.tile(batch[:, 0, 96, 96][:, None] / 255 - 0.5, (1, 212))
    faces = [_face((5 * i, 10, 5 * i + 40, 50)) for i in range(5)]
    network.fed.clear()
    together = fn.answers(plugin, faces)
    assert network.batches == [5]
    assert together == [
        fn.answers(plugin, [_face((5 * i, 10, 5 * i + 40, 50))])[0] for i in range(5)
    ]
