"""The graph that the TensorFlow and TFLite readers make: TensorFlow's operators, NHWC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int | None, ...]

MAX_NODES = 50_000
"""Far above any face network (FaceNet has 1 127 nodes); it bounds the time of a hostile file."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Weights stored as integers q of `dtype`, each meaning q * `scale` + `least`."""

    scale: float
    least: float
    dtype: str

    def values(self, stored: Array) -> Array:
        """The weights as float32, rounded once from float64."""
        # As TensorFlow.js does. The caller checks for values that overflow.
        with np.errstate(over="ignore"):
            return (stored.astype(np.float64) * self.scale + self.least).astype(np.float32)

    def stored(self, values: Array) -> Array | None:
        """The integers for `values`; None if a value is between two levels."""
        limits = np.iinfo(self.dtype)
        levels = np.rint((values.astype(np.float64) - self.least) / self.scale)
        if levels.size and not limits.min <= levels.min() <= levels.max() <= limits.max:
            return None
        whole = levels.astype(self.dtype)
        return whole if np.array_equal(self.values(whole), values.astype(np.float32)) else None


@dataclass(frozen=True, slots=True)
class Node:
    """An operation; `inputs` are names of values (`node` or `node:1`), `control` names of nodes."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    control: tuple[str, ...] = ()


@dataclass(slots=True)
class Graph:
    """Nodes by name, in any order; `inputs` has the picture's name and its declared NHWC shape."""

    nodes: dict[str, Node]
    constants: dict[str, Array]
    inputs: dict[str, Shape]
    outputs: tuple[str, ...]
