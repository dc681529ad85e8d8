"""Compares embeddings as CompreFace does: at unit length, by their distance."""

from __future__ import annotations

import math
from collections.abc import Sequence


def unit(vector: Sequence[float]) -> list[float]:
    """The vector at length 1; ValueError for one without direction."""
    length = math.hypot(*vector)
    if not length or not math.isfinite(length):
        raise ValueError("an embedding without direction")
    return [value / length for value in vector]


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Euclidean distance at unit length, 0..2; ValueError for two that cannot be compared."""
    if len(a) != len(b):
        raise ValueError("embeddings of different length")
    return math.dist(unit(a), unit(b))


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """-1..1, by the distance; ValueError for two that cannot be compared."""
    return 1 - distance(a, b) ** 2 / 2


def similarity(distance: float, coefficients: Sequence[float]) -> float:
    """Upstream's formula, 0..1: (tanh((c0 - distance) * c1) + 1) / 2."""
    c0, c1 = coefficients
    return (math.tanh((c0 - distance) * c1) + 1) / 2
