"""Compares embeddings as CompreFace does: by their Euclidean distance at unit length."""

from __future__ import annotations

import math
from collections.abc import Sequence


def unit(vector: Sequence[float]) -> list[float]:
    """The vector scaled to length 1; ValueError if its length is 0 or not finite."""
    length = math.hypot(*vector)
    if not length or not math.isfinite(length):
        raise ValueError("the embedding has length 0 or is not finite")
    return [value / length for value in vector]


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Euclidean distance at unit length, 0..2; ValueError if the vectors cannot be compared."""
    if len(a) != len(b):
        raise ValueError("the embeddings have different lengths")
    return math.dist(unit(a), unit(b))


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """Cosine, -1..1, from the distance; ValueError if the vectors cannot be compared."""
    return 1 - distance(a, b) ** 2 / 2


def similarity(distance: float, coefficients: Sequence[float]) -> float:
    """Upstream's formula, 0..1: (tanh((c0 - distance) * c1) + 1) / 2."""
    c0, c1 = coefficients
    return (math.tanh((c0 - distance) * c1) + 1) / 2
