"""Outputs per stride, as SCRFD and YuNet have them: [rows, values] for strides 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

STRIDES: Final = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Priors:
    """The outputs of one stride: `scores` (an array [R] per score output), `boxes` [R, 4] and
    `points` [R, 5, 2]. The R rows are ordered by row, column and anchor of the prior."""

    stride: int
    scores: tuple[NDArray[np.float32], ...]
    boxes: NDArray[np.float32]
    points: NDArray[np.float32]


def by_stride(
    outputs: Sequence[NDArray[Any]], size: tuple[int, int], *, scores: int, anchors: int
) -> list[Priors]:
    """The outputs of one picture by stride, told apart by their shapes, whatever their order.

    They may have a batch axis. `scores`: the number of score outputs per stride; `size`: (height,
    width) of the input, multiples of 32. Raises ValueError where an output is missing or unknown.
    """
    by_shape: dict[tuple[int, int], list[NDArray[Any]]] = {}
    for output in outputs:
        if output.ndim not in (2, 3) or (output.ndim == 3 and len(output) != 1):
            raise ValueError(f"an output has the shape {list(output.shape)}, not [rows, values]")
        table = output.reshape(-1, output.shape[-1])
        by_shape.setdefault((len(table), table.shape[1]), []).append(table)
    height, width = size
    parts = []
    for stride in STRIDES:
        rows = (height // stride) * (width // stride) * anchors
        kinds = [by_shape.pop((rows, values), []) for values in (1, 4, 10)]
        if [len(kind) for kind in kinds] != [scores, 1, 1]:
            raise ValueError(
                f"for stride {stride} there must be {scores} outputs [{rows}, 1], one [{rows}, 4] "
                f"and one [{rows}, 10]; there are {', '.join(str(len(kind)) for kind in kinds)}"
            )
        values = tuple(kind[:, 0] for kind in kinds[0])
        parts.append(Priors(stride, values, kinds[1][0], kinds[2][0].reshape(-1, 5, 2)))
    if by_shape:
        raise ValueError(f"there are more outputs than three strides have: {sorted(by_shape)}")
    return parts


def cells(rows: NDArray[np.intp], width: int, stride: int, anchors: int) -> NDArray[np.float32]:
    """(column, row) of each prior's cell, float32 [N, 2], in a picture `width` px wide."""
    row, column = np.divmod(rows // anchors, width // stride)
    return np.stack((column, row), axis=1).astype(np.float32)
