"""The graph both readers give and all else works on: TensorFlow's operators, NHWC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int | None, ...]

MAX_NODES = 50_000
"""Far above any face network (FaceNet has 1 127 nodes); keeps a lying file from costing minutes."""


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
