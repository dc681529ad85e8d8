"""What SCRFD and YuNet share: outputs [rows, values] for strides 8, 16 and 32, a row a prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

STRIDES: Final = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Priors:
    """The outputs of one stride: `scores` (one array [R] a score output), `boxes` [R, 4] and
    `points` [R, 5, 2]; R rows, by row, column and anchor."""

    stride: int
    scores: tuple[NDArray[np.float32], ...]
    boxes: NDArray[np.float32]
    points: NDArray[np.float32]


def by_stride(
    outputs: Sequence[NDArray[Any]], size: tuple[int, int], *, scores: int, anchors: int
) -> list[Priors]:
    """The outputs of one picture, sorted by what they hold; their order and names do not matter.

    They may have a batch axis. `scores`: how many outputs a stride have one value a row;
    `size`: (height, width) fed, multiples of 32. Raises ValueError where outputs are missing.
    """
    found: dict[tuple[int, int], list[NDArray[Any]]] = {}
    for output in outputs:
        if output.ndim not in (2, 3) or (output.ndim == 3 and len(output) != 1):
            raise ValueError(f"an output has the shape {list(output.shape)}, not [rows, values]")
        table = output.reshape(-1, output.shape[-1])
        found.setdefault((len(table), table.shape[1]), []).append(table)
    height, width = size
    parts = []
    for stride in STRIDES:
        rows = (height // stride) * (width // stride) * anchors
        kinds = [found.pop((rows, values), []) for values in (1, 4, 10)]
        if [len(kind) for kind in kinds] != [scores, 1, 1]:
            raise ValueError(
                f"for stride {stride} there must be {scores} outputs [{rows}, 1], one [{rows}, 4] "
                f"and one [{rows}, 10]; there are {', '.join(str(len(kind)) for kind in kinds)}"
            )
        values = tuple(kind[:, 0] for kind in kinds[0])
        parts.append(Priors(stride, values, kinds[1][0], kinds[2][0].reshape(-1, 5, 2)))
    if found:
        raise ValueError(f"there are more outputs than three strides have: {sorted(found)}")
    return parts


def cells(rows: NDArray[np.intp], width: int, stride: int, anchors: int) -> NDArray[np.float32]:
    """(column, row) of each prior's cell, float32 [N, 2], in a picture `width` px wide."""
    row, column = np.divmod(rows // anchors, width // stride)
    return np.stack((column, row), axis=1).astype(np.float32)
