"""Batches cover every row once, in order, and are balanced."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compreface_engine.plugins.batches import slices


@given(count=st.integers(0, 300), most=st.integers(1, 40))
def test_slices_cover_all_rows_in_few_balanced_parts(count: int, most: int) -> None:
    parts = list(slices(count, most))
    assert [row for part in parts for row in range(count)[part]] == list(range(count))
    sizes = [part.stop - part.start for part in parts]
    assert len(sizes) == -(-count // most)
    assert max(sizes, default=0) <= most
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


@given(count=st.integers(0, 300), most=st.integers(1, 40), workers=st.integers(1, 8))
def test_each_hand_gets_as_many_slices_as_the_others(count: int, most: int, workers: int) -> None:
    parts = list(slices(count, most, workers))
    assert [row for part in parts for row in range(count)[part]] == list(range(count))
    sizes = [part.stop - part.start for part in parts]
    assert len(sizes) % workers == 0 or len(sizes) == count
    assert max(sizes, default=0) <= most
    assert min(sizes, default=1) >= 1
