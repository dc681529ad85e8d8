"""The graph both readers give and all else works on: TensorFlow's operators, NHWC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int | None, ...]

MAX_NODES = 50_000
"""Far above any face network (FaceNet has 1 127 nodes); keeps a lying file from costing minutes."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Weights stored as whole numbers q of `dtype`, each standing for q * `scale` + `least`."""

    scale: float
    least: float
    dtype: str

    def values(self, stored: Array) -> Array:
        """float32, rounded once, from float64."""
        # As TensorFlow.js does; what overflows is the caller's affair.
        with np.errstate(over="ignore"):
            return (stored.astype(np.float64) * self.scale + self.least).astype(np.float32)

    def stored(self, values: Array) -> Array | None:
        """The whole numbers for `values`; None where one of them is on no level."""
        limits = np.iinfo(self.dtype)
        found = np.rint((values.astype(np.float64) - self.least) / self.scale)
        if found.size and not limits.min <= found.min() <= found.max() <= limits.max:
            return None
        whole = found.astype(self.dtype)
        return whole if np.array_equal(self.values(whole), values.astype(np.float32)) else None


@dataclass(frozen=True, slots=True)
class Node:
    """One operation; `inputs` are value names (`node` or `node:1`), control inputs stand apart."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    control: tuple[str, ...] = ()


@dataclass(slots=True)
class Graph:
    """Nodes by name, in any order; `inputs` maps the picture's value to its declared NHWC shape."""

    nodes: dict[str, Node]
    constants: dict[str, Array]
    inputs: dict[str, Shape]
    outputs: tuple[str, ...]
