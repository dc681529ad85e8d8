"""FaceNet's weights and pictures that follow from names, with and without PyTorch."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.frameworks import seeded

SIZE = 160


def values(name: str, shape: Sequence[int]) -> Any:
    """float32 that keeps activations near 1; `name` is the tensor's in the state dict."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) > 1:  # outputs first
        reach = (6 / np.prod(shape[1:])) ** 0.5
        return ((rng.random(tuple(shape)) * 2 - 1) * reach).astype(np.float32)
    around = 1.0 if name.endswith(("weight", "var")) else 0.0
    return (around + rng.random(tuple(shape)) - 0.5).astype(np.float32)


def pictures() -> Any:
    """[2, 3, 160, 160]: a smooth picture and noise."""
    return np.ascontiguousarray(seeded.pictures(8, 2, SIZE, SIZE, 3).transpose(0, 3, 1, 2))
