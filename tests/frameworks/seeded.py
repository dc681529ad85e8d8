"""Weights and pictures that follow from names and seeds, with and without TensorFlow."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np


def values(name: str, shape: Sequence[int]) -> Any:
    """float32 of a size that keeps activations apart from 0, from each other and finite."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    last = name.rsplit("/", 1)[-1]
    if last in ("moving_variance", "variance"):
        low, high = 0.4, 1.6
    elif len(shape) < 2:
        low, high = -0.3, 0.3
    else:
        high = (6 / np.prod(shape[:-1])) ** 0.5
        low = -high
    return (low + (high - low) * rng.random(tuple(shape))).astype(np.float32)


def pictures(seed: int, *shape: int) -> Any:
    """A seeded NHWC batch: half noise, half smooth, about as wide as standardised crops."""
    rng = np.random.default_rng(seed)
    noise = rng.random(shape) * 4 - 2
    waves = np.cumsum(np.cumsum(rng.random(shape) - 0.5, axis=1), axis=2)
    smooth = 2 * np.tanh(waves / (waves.std() + 1e-9))
    half = (shape[0] + 1) // 2
    return np.concatenate([smooth[:half], noise[half:]]).astype(np.float32)
