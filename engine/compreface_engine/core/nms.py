"""Non-maximum suppression as MTCNN's reference code does it: inclusive pixels, greedy by score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 256  # bounds the overlap matrix to 256 x N float64


def suppress(
    boxes: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    threshold: float,
    *,
    of_smaller: bool = False,
) -> NDArray[np.intp]:
    """Indices of the boxes kept, best score first.

    `boxes` [N, 4] is x1, y1, x2, y2 in pixels, both ends inclusive (areas count + 1). A box goes
    when its overlap with a better one is above `threshold`: intersection over union, or over the
    smaller area with `of_smaller`. Of equal scores the later box wins.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    count = len(order)
    if count < 2:
        return order
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order, :4].T)
    area = (x2 - x1 + 1) * (y2 - y1 + 1)
    alive = np.ones(count, dtype=np.bool_)
    kept: list[int] = []
    for start in range(0, count, _ROWS_AT_ONCE):
        rows = start + np.flatnonzero(alive[start : start + _ROWS_AT_ONCE])
        if not len(rows):
            continue
        tail = slice(start, count)
        right = np.minimum(x2[rows, None], x2[None, tail])
        bottom = np.minimum(y2[rows, None], y2[None, tail])
        right -= np.maximum(x1[rows, None], x1[None, tail])
        bottom -= np.maximum(y1[rows, None], y1[None, tail])
        right += 1
        bottom += 1
        inter = np.maximum(right, 0, out=right) * np.maximum(bottom, 0, out=bottom)
        if of_smaller:
            base = np.minimum(area[rows, None], area[None, tail])
        else:
            base = area[rows, None] + area[None, tail] - inter
        passes = inter / base <= threshold
        for row, index in zip(passes, rows, strict=True):
            if alive[index]:
                kept.append(int(index))
                alive[tail] &= row
    return order[kept]
