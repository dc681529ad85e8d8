"""Non-maximum suppression as in MTCNN's reference code: inclusive pixels, greedy by score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Limits of the matrix of overlaps: its memory must not grow with the square of the boxes.
_ROWS_AT_ONCE = 256
_PAIRS_AT_ONCE = 1 << 20


def suppress(
    boxes: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    threshold: float,
    *,
    of_smaller: bool = False,
    of_best: int | None = None,
) -> NDArray[np.intp]:
    """The indices of the kept boxes, best score first.

    `boxes` [N, 4] are x1, y1, x2, y2 in pixels, both ends inclusive (sides count + 1). A box is
    suppressed where its overlap with a better one exceeds `threshold`: intersection over union, or
    over the smaller area with `of_smaller`. Of equal scores the later box is the better. Only the
    `of_best` boxes with the best scores are considered, to bound the work; None for all.
    """
    order = np.argsort(scores, kind="stable")[::-1][:of_best]
    count = len(order)
    if count < 2:
        return order
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order, :4].T)
    area = (x2 - x1 + 1) * (y2 - y1 + 1)

    def compatible(rows: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.bool_]:
        """[rows, others]: whether the overlap is at most the threshold."""
        right = np.minimum(x2[rows, None], x2[others])
        bottom = np.minimum(y2[rows, None], y2[others])
        right -= np.maximum(x1[rows, None], x1[others])
        bottom -= np.maximum(y1[rows, None], y1[others])
        right += 1
        bottom += 1
        inter = np.maximum(right, 0, out=right) * np.maximum(bottom, 0, out=bottom)
        if of_smaller:
            base = np.minimum(area[rows, None], area[others])
        else:
            base = area[rows, None] + area[others] - inter
        passes: NDArray[np.bool_] = inter / base <= threshold
        return passes

    left = np.arange(count)
    kept: list[NDArray[np.intp]] = []
    while len(left):
        at_once = max(1, min(_ROWS_AT_ONCE, _PAIRS_AT_ONCE // len(left)))
        rows, left = left[:at_once], left[at_once:]
        unsuppressed = np.ones(len(rows), dtype=np.bool_)
        picked: list[int] = []
        for index, passes in enumerate(compatible(rows, rows)):
            if unsuppressed[index]:
                picked.append(index)
                unsuppressed &= passes
        best = rows[picked]
        kept.append(best)
        if len(left):
            left = left[compatible(best, left).all(axis=0)]
    return order[np.concatenate(kept)]
