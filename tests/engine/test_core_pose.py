"""Head pose: the contract's recorded values, and finite angles for any points."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compreface_engine.core.pose import Pose, estimate

Point = tuple[int, int]
_GROUP = [
    [(583, 276), (621, 281), (600, 298), (578, 310), (618, 316)],
    [(455, 287), (491, 293), (468, 307), (450, 321), (490, 327)],
    [(282, 231), (317, 230), (303, 250), (284, 264), (318, 263)],
]


@pytest.mark.parametrize(
    ("points", "size", "expected"),
    [
        (
            [(104, 124), (153, 124), (131, 157), (106, 177), (146, 177)],
            (256, 256),
            Pose(-11.674993199735553, -0.34392237958718397, -13.752121171520084),
        ),
        (_GROUP[0], (819, 546), Pose(15.170067319485156, -9.15453650944346, -23.0406295925379)),
        (_GROUP[1], (819, 546), Pose(15.627603393522065, -5.707707964674455, -7.6571641059326785)),
        (_GROUP[2], (819, 546), Pose(14.057519939758862, 0.08896190336361087, -9.078787395415098)),
    ],
)
def test_poses_are_those_of_the_contract(
    points: list[Point], size: tuple[int, int], expected: Pose
) -> None:
    pose = estimate(points, width=size[0], height=size[1])
    assert pose.pitch == pytest.approx(expected.pitch, abs=0.05)
    assert pose.roll == pytest.approx(expected.roll, abs=0.05)
    assert pose.yaw == pytest.approx(expected.yaw, abs=0.05)


@settings(max_examples=50, deadline=None)
@given(
    points=st.lists(st.tuples(st.integers(-50, 700), st.integers(-50, 700)), min_size=5, max_size=5)
)
def test_any_five_points_give_finite_angles(points: list[Point]) -> None:
    pose = estimate(points, width=640, height=480)
    assert all(math.isfinite(angle) for angle in (pose.pitch, pose.roll, pose.yaw))


def test_points_that_coincide_give_finite_angles() -> None:
    pose = estimate([(5, 5)] * 5, width=100, height=80)
    assert all(math.isfinite(angle) for angle in (pose.pitch, pose.roll, pose.yaw))
