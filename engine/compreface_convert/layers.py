"""A graph under construction: operators, constants, and weights of a known shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Node

INPUT: Final = "input"
EPSILON: Final = 0.001
"""That of the batch norms of TensorFlow-Slim's Inception networks, and of their ports."""
Variables: TypeAlias = Callable[[str], Array]
"""A function from a variable's name to its value; raises ConvertError if there is none."""


class Net:
    """A graph under construction, NHWC; `channels` has the number of each value."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables
        self.nodes: dict[str, Node] = {INPUT: Node(INPUT, "Placeholder", ())}
        self.constants: dict[str, Array] = {}
        self.channels = {INPUT: 3}

    def variable(self, name: str, shape: tuple[int, ...]) -> str:
        """The variable as a constant of that shape. Raises ConvertError."""
        return self.constant(name, self.value(name, shape))

    def value(self, name: str, shape: tuple[int, ...]) -> Array:
        """The variable, checked. Raises ConvertError."""
        value = self._variables(name)
        if value.shape != shape or value.dtype != np.float32:
            raise ConvertError(
                f"the variable '{name}' is {value.dtype} {list(value.shape)}, "
                f"not float32 {list(shape)}: is this the network of the entry?"
            )
        return value

    def constant(self, name: str, value: Array) -> str:
        self.constants[name] = value
        self.nodes[name] = Node(name, "Const", ())
        return name

    def add(self, name: str, op: str, *inputs: str, **attrs: Any) -> str:
        """A node. Its result has as many channels as its first input, or as its kernel gives."""
        self.nodes[name] = Node(name, op, inputs, attrs)
        if op in ("Conv2D", "MatMul"):
            self.channels[name] = self.constants[inputs[1]].shape[-1]
        else:
            self.channels[name] = self.channels[inputs[0]]
        return name

    def conv_norm_relu(
        self, x: str, name: str, weights: str, norm: tuple[str, ...], stride: int = 0
    ) -> str:
        """Convolution, batch norm (gamma, beta, mean, variance) and ReLU, under the scope `name`.

        A stride means VALID padding, none SAME.
        """
        y = self.conv(x, f"{name}/Conv2D", weights, stride)
        y = self.norm(y, f"{name}/BatchNorm", norm)
        return self.add(f"{name}/Relu", "Relu", y)

    def conv(self, x: str, name: str, weights: str, stride: int = 0) -> str:
        return self.add(
            name, "Conv2D", x, weights,
            strides=[1, stride or 1, stride or 1, 1], padding=b"VALID" if stride else b"SAME",
        )  # fmt: skip

    def norm(self, x: str, name: str, values: tuple[str, ...]) -> str:
        return self.add(name, "FusedBatchNorm", x, *values, epsilon=EPSILON, is_training=False)

    def pool(self, x: str, name: str, op: str, stride: int, padding: bytes) -> str:
        attrs = {"ksize": [1, 3, 3, 1], "strides": [1, stride, stride, 1], "padding": padding}
        return self.add(name, op, x, **attrs)

    def concat(self, name: str, parts: list[str]) -> str:
        axis = self.constant(f"{name}/axis", np.array(3, np.int32))
        self.add(name, "ConcatV2", *parts, axis)
        self.channels[name] = sum(self.channels[part] for part in parts)
        return name
