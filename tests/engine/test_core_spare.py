"""Memory is lent again when nothing refers to it any more, and never before."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray

from compreface_engine.core.image import decode
from compreface_engine.core.spare import LEAST, MOST, Spare


def _array(spare: Spare, size: int = LEAST) -> NDArray[np.uint8]:
    lent = spare.lend(size)
    assert lent is not None
    return np.frombuffer(lent, np.uint8)


def _where(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize("size", [0, LEAST - 1, MOST + 1])
def test_small_and_huge_pieces_are_not_lent(size: int) -> None:
    assert Spare().lend(size) is None


def test_what_came_back_is_lent_again() -> None:
    spare = Spare()
    first = _array(spare, LEAST + 9)
    where = _where(first)
    del first
    gc.collect()
    again = _array(spare)
    assert _where(again) == where
    assert again.nbytes == LEAST
    del again
    gc.collect()
    assert _array(spare, LEAST + 9).nbytes == LEAST + 9


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[5:9],
        lambda a: a[: 30 * 40 * 3].reshape(30, 40, 3).transpose(2, 0, 1),
        lambda a: a.view(np.uint16)[::-1],
        memoryview,
        lambda a: np.frombuffer(memoryview(a)[3:], np.uint8),
        lambda a: np.lib.stride_tricks.as_strided(a, (4,), (2,)),
    ],
    ids=["slice", "turned", "other-type", "memoryview", "over-a-memoryview", "strided"],
)
def test_as_long_as_any_view_lives_the_memory_is_the_borrowers(
    view: Callable[[NDArray[np.uint8]], Any],
) -> None:
    spare = Spare()
    array = _array(spare)
    array[:] = 7
    kept = view(array)
    where = _where(array)
    del array
    gc.collect()
    other = _array(spare)
    other[:] = 1
    assert _where(other) != where
    assert set(np.unique(np.asarray(kept)).tolist()) <= {7, 0x0707}


def test_large_pictures_keep_their_pixels_while_others_are_decoded() -> None:
    rng = np.random.default_rng(0)
    pictures = [
        np.repeat(np.repeat(rng.integers(0, 256, (300, 250, 3), np.uint8), 10, 0), 10, 1)
        for _ in range(3)
    ]
    files = [simplejpeg.encode_jpeg(picture, 80) for picture in pictures]
    expected = [simplejpeg.decode_jpeg(data, "RGB") for data in files]

    def check(number: int) -> bool:
        which = number % 3
        first = decode(files[which], max_pixels=10**8).image
        corner = first[-9:, -9:]
        del first
        second = decode(files[which - 1], max_pixels=10**8).image
        return np.array_equal(corner, expected[which][-9:, -9:]) and np.array_equal(
            second, expected[which - 1]
        )

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(check, range(9)))


def test_a_large_picture_cut_short_shows_nothing_of_the_one_before() -> None:
    white = np.full((3000, 2500, 3), 255, np.uint8)
    decode(simplejpeg.encode_jpeg(white, 80), max_pixels=10**8)
    black = simplejpeg.encode_jpeg(np.zeros_like(white), 80)
    gc.collect()
    cut = decode(black[: len(black) // 2], max_pixels=10**8)
    assert cut.truncated
    assert cut.image.max() < 200
