"""Non-maximum suppression against a plain implementation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compreface_engine.core.nms import suppress

Box = tuple[int, int, int, int, int]
_BOXES = st.lists(
    st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(0, 25)] * 2, st.integers(0, 6)),
    max_size=40,
)


def _arrays(raw: list[Box]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in raw], np.float64).reshape(-1, 4)
    return boxes, np.array([score for *_, score in raw], np.float64)


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64], of_smaller: bool) -> float:
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
    area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
    both = width * height
    return float(both / (min(area_a, area_b) if of_smaller else area_a + area_b - both))


def _plain(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], threshold: float, of_smaller: bool
) -> list[int]:
    left = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    kept = []
    while left:
        best = left.pop()
        kept.append(best)
        left = [i for i in left if _overlap(boxes[best], boxes[i], of_smaller) <= threshold]
    return kept


@given(raw=_BOXES, threshold=st.sampled_from([0.0, 0.3, 0.5, 0.7]), of_smaller=st.booleans())
def test_suppression_keeps_what_the_plain_greedy_rule_keeps(
    raw: list[Box], threshold: float, of_smaller: bool
) -> None:
    boxes, scores = _arrays(raw)
    kept = suppress(boxes, scores, threshold, of_smaller=of_smaller)
    assert kept.tolist() == _plain(boxes, scores, threshold, of_smaller)


@given(raw=_BOXES, most=st.integers(1, 6))
def test_with_of_best_only_the_best_boxes_are_considered(raw: list[Box], most: int) -> None:
    boxes, scores = _arrays(raw)
    best = np.argsort(scores, kind="stable")[::-1][:most][::-1]
    kept = suppress(boxes, scores, 0.3, of_best=most)
    assert kept.tolist() == best[_plain(boxes[best], scores[best], 0.3, False)].tolist()


@pytest.mark.parametrize("count", [255, 256, 257, 700])
def test_suppression_in_blocks_gives_the_same_result(
    count: int,
) -> None:
    random = np.random.default_rng(count)
    corners = random.integers(0, 200, (count, 2)).astype(np.float64)
    boxes = np.hstack((corners, corners + random.integers(5, 60, (count, 2))))
    scores = random.random(count)
    assert suppress(boxes, scores, 0.4).tolist() == _plain(boxes, scores, 0.4, False)


def test_memory_does_not_grow_with_the_square_of_the_boxes() -> None:
    corners = np.stack((np.arange(256) * 20.0, np.zeros(256)), axis=1)
    boxes = np.tile(np.hstack((corners, corners + 15)).astype(np.float32), (100, 1))
    scores = np.linspace(1, 0, len(boxes))
    tracemalloc.start()
    kept = suppress(boxes, scores, 0.4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept.tolist() == list(range(256))
    assert peak < 60e6


def test_of_equal_scores_the_later_box_wins() -> None:
    boxes = np.array([[0, 0, 9, 9], [1, 0, 10, 9]], np.float64)
    assert suppress(boxes, np.array([0.9, 0.9]), 0.5).tolist() == [1]


def test_boxes_suppressed_in_the_first_rows_are_skipped_later() -> None:
    boxes = np.tile(np.array([[3, 3, 20, 20]], np.float64), (600, 1))
    assert suppress(boxes, np.linspace(0, 1, 600), 0.5).tolist() == [599]
