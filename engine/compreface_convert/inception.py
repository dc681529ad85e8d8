"""TensorFlow-Slim's Inception v3 at inference, with the variables of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Graph, Node

# Szegedy et al. 2015 (arXiv 1512.00567). The scope names, the irregular ones too, are those of
# TensorFlow-Slim's nets/inception_v3.py, since the variables are named by them.
_EPSILON: Final = 0.001
_FEATURES: Final = 2048
INPUT: Final = "input"
OUTPUT: Final = "Softmax"
"""The name of the softmax in the original graph."""

Variables = Callable[[str], Array]
"""A function from a variable's name to its value; raises ConvertError if there is none."""


Layer: TypeAlias = tuple[str, int, tuple[int, int]] | tuple[str, int, tuple[int, int], int]
"""The scope, channels and kernel of a layer and, if it is not padded, its stride."""


class _Net:
    """A graph under construction; the name of a layer is its scope."""

    def __init__(self, variables: Variables) -> None:
        self._variables = variables
        self.nodes: dict[str, Node] = {INPUT: Node(INPUT, "Placeholder", ())}
        self.constants: dict[str, Array] = {}
        self._channels = {INPUT: 3}

    def variable(self, name: str, shape: tuple[int, ...]) -> str:
        value = self._variables(name)
        if value.shape != shape or value.dtype != np.float32:
            raise ConvertError(
                f"the variable '{name}' is {value.dtype} {list(value.shape)}, "
                f"not float32 {list(shape)}: is this the network of the entry?"
            )
        return self.constant(name, value)

    def constant(self, name: str, value: Array) -> str:
        self.constants[name] = value
        self.nodes[name] = Node(name, "Const", ())
        return name

    def add(self, name: str, op: str, *inputs: str, **attrs: object) -> str:
        self.nodes[name] = Node(name, op, inputs, attrs)
        return name

    def conv(
        self, x: str, name: str, channels: int, kernel: tuple[int, int], stride: int = 0
    ) -> str:
        """Convolution, batch norm without gamma, ReLU; a stride means VALID padding, else SAME."""
        before = self._channels[x]
        weights = self.variable(f"{name}/weights", (*kernel, before, channels))
        attrs = {
            "strides": [1, stride or 1, stride or 1, 1],
            "padding": b"VALID" if stride else b"SAME",
        }
        y = self.add(f"{name}/Conv2D", "Conv2D", x, weights, **attrs)
        gamma = self.constant(f"{name}/ones", np.ones(channels, np.float32))
        statistics = [
            self.variable(f"{name}/BatchNorm/{part}", (channels,))
            for part in ("beta", "moving_mean", "moving_variance")
        ]
        y = self.add(
            f"{name}/BatchNorm",
            "FusedBatchNorm",
            *(y, gamma, *statistics),
            epsilon=_EPSILON,
            is_training=False,
        )
        y = self.add(f"{name}/Relu", "Relu", y)
        self._channels[y] = channels
        return y

    def pool(self, x: str, name: str, op: str, stride: int, padding: bytes) -> str:
        attrs = {"ksize": [1, 3, 3, 1], "strides": [1, stride, stride, 1], "padding": padding}
        self._channels[name] = self._channels[x]
        return self.add(name, op, x, **attrs)

    def concat(self, name: str, parts: list[str]) -> str:
        axis = self.constant(f"{name}/axis", np.array(3, np.int32))
        self._channels[name] = sum(self._channels[part] for part in parts)
        return self.add(name, "ConcatV2", *parts, axis)

    def tower(self, x: str, scope: str, *layers: Layer) -> str:
        for name, *shape in layers:
            x = self.conv(x, f"{scope}/{name}", *shape)  # type: ignore[arg-type]
        return x

    def pooled(self, x: str, scope: str, layer: str, channels: int) -> str:
        x = self.pool(x, f"{scope}/AvgPool_0a_3x3", "AvgPool", 1, b"SAME")
        return self.conv(x, f"{scope}/{layer}", channels, (1, 1))


def inception_v3(variables: Variables, labels: int) -> Graph:
    """The graph [N, H, W, 3] -> probabilities [N, labels].

    It is the base network, a mean over the picture and the dense layer `output`. Raises
    ConvertError for a variable that is missing or has another shape.
    """
    net = _Net(variables)
    x = _stem(net, INPUT)
    x = _mixed_5(net, x, "InceptionV3/Mixed_5b", 32)
    x = _mixed_5(net, x, "InceptionV3/Mixed_5c", 64, ("Conv2d_0b_1x1", "Conv_1_0c_5x5"))
    x = _mixed_5(net, x, "InceptionV3/Mixed_5d", 64)
    x = _mixed_6a(net, x, "InceptionV3/Mixed_6a")
    for name, narrow in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        x = _mixed_6(net, x, f"InceptionV3/Mixed_{name}", narrow)
    x = _mixed_7a(net, x, "InceptionV3/Mixed_7a")
    x = _mixed_7(net, x, "InceptionV3/Mixed_7b", "Conv2d_0b_3x1")
    x = _mixed_7(net, x, "InceptionV3/Mixed_7c", "Conv2d_0c_3x1")
    axes = net.constant("axes", np.array([1, 2], np.int32))
    x = net.add("pool", "Mean", x, axes, keep_dims=False)
    x = net.add("output/MatMul", "MatMul", x, net.variable("output/weights", (_FEATURES, labels)))
    x = net.add("output/Add", "BiasAdd", x, net.variable("output/biases", (labels,)))
    net.add(OUTPUT, "Softmax", x)
    return Graph(net.nodes, net.constants, {INPUT: (None, None, None, 3)}, (OUTPUT,))


def _stem(net: _Net, x: str) -> str:
    scope = "InceptionV3"
    x = net.conv(x, f"{scope}/Conv2d_1a_3x3", 32, (3, 3), 2)
    x = net.conv(x, f"{scope}/Conv2d_2a_3x3", 32, (3, 3), 1)
    x = net.conv(x, f"{scope}/Conv2d_2b_3x3", 64, (3, 3))
    x = net.pool(x, f"{scope}/MaxPool_3a_3x3", "MaxPool", 2, b"VALID")
    x = net.conv(x, f"{scope}/Conv2d_3b_1x1", 80, (1, 1), 1)
    x = net.conv(x, f"{scope}/Conv2d_4a_3x3", 192, (3, 3), 1)
    return net.pool(x, f"{scope}/MaxPool_5a_3x3", "MaxPool", 2, b"VALID")


def _mixed_5(
    net: _Net,
    x: str,
    scope: str,
    pool_channels: int,
    second: tuple[str, str] = ("Conv2d_0a_1x1", "Conv2d_0b_5x5"),
) -> str:
    branches = [
        net.tower(x, f"{scope}/Branch_0", ("Conv2d_0a_1x1", 64, (1, 1))),
        net.tower(x, f"{scope}/Branch_1", (second[0], 48, (1, 1)), (second[1], 64, (5, 5))),
        net.tower(
            x,
            f"{scope}/Branch_2",
            ("Conv2d_0a_1x1", 64, (1, 1)),
            ("Conv2d_0b_3x3", 96, (3, 3)),
            ("Conv2d_0c_3x3", 96, (3, 3)),
        ),
        net.pooled(x, f"{scope}/Branch_3", "Conv2d_0b_1x1", pool_channels),
    ]
    return net.concat(f"{scope}/concat", branches)


def _mixed_6a(net: _Net, x: str, scope: str) -> str:
    branches = [
        net.tower(x, f"{scope}/Branch_0", ("Conv2d_1a_1x1", 384, (3, 3), 2)),
        net.tower(
            x,
            f"{scope}/Branch_1",
            ("Conv2d_0a_1x1", 64, (1, 1)),
            ("Conv2d_0b_3x3", 96, (3, 3)),
            ("Conv2d_1a_1x1", 96, (3, 3), 2),
        ),
        net.pool(x, f"{scope}/Branch_2/MaxPool_1a_3x3", "MaxPool", 2, b"VALID"),
    ]
    return net.concat(f"{scope}/concat", branches)


def _mixed_6(net: _Net, x: str, scope: str, narrow: int) -> str:
    branches = [
        net.tower(x, f"{scope}/Branch_0", ("Conv2d_0a_1x1", 192, (1, 1))),
        net.tower(
            x,
            f"{scope}/Branch_1",
            ("Conv2d_0a_1x1", narrow, (1, 1)),
            ("Conv2d_0b_1x7", narrow, (1, 7)),
            ("Conv2d_0c_7x1", 192, (7, 1)),
        ),
        net.tower(
            x,
            f"{scope}/Branch_2",
            ("Conv2d_0a_1x1", narrow, (1, 1)),
            ("Conv2d_0b_7x1", narrow, (7, 1)),
            ("Conv2d_0c_1x7", narrow, (1, 7)),
            ("Conv2d_0d_7x1", narrow, (7, 1)),
            ("Conv2d_0e_1x7", 192, (1, 7)),
        ),
        net.pooled(x, f"{scope}/Branch_3", "Conv2d_0b_1x1", 192),
    ]
    return net.concat(f"{scope}/concat", branches)


def _mixed_7a(net: _Net, x: str, scope: str) -> str:
    branches = [
        net.tower(
            x,
            f"{scope}/Branch_0",
            ("Conv2d_0a_1x1", 192, (1, 1)),
            ("Conv2d_1a_3x3", 320, (3, 3), 2),
        ),
        net.tower(
            x,
            f"{scope}/Branch_1",
            ("Conv2d_0a_1x1", 192, (1, 1)),
            ("Conv2d_0b_1x7", 192, (1, 7)),
            ("Conv2d_0c_7x1", 192, (7, 1)),
            ("Conv2d_1a_3x3", 192, (3, 3), 2),
        ),
        net.pool(x, f"{scope}/Branch_2/MaxPool_1a_3x3", "MaxPool", 2, b"VALID"),
    ]
    return net.concat(f"{scope}/concat", branches)


def _mixed_7(net: _Net, x: str, scope: str, tall: str) -> str:
    first = net.tower(x, f"{scope}/Branch_1", ("Conv2d_0a_1x1", 384, (1, 1)))
    second = net.tower(
        x, f"{scope}/Branch_2", ("Conv2d_0a_1x1", 448, (1, 1)), ("Conv2d_0b_3x3", 384, (3, 3))
    )
    branches = [
        net.tower(x, f"{scope}/Branch_0", ("Conv2d_0a_1x1", 320, (1, 1))),
        net.conv(first, f"{scope}/Branch_1/Conv2d_0b_1x3", 384, (1, 3)),
        net.conv(first, f"{scope}/Branch_1/{tall}", 384, (3, 1)),
        net.conv(second, f"{scope}/Branch_2/Conv2d_0c_1x3", 384, (1, 3)),
        net.conv(second, f"{scope}/Branch_2/Conv2d_0d_3x1", 384, (3, 1)),
        net.pooled(x, f"{scope}/Branch_3", "Conv2d_0b_1x1", 192),
    ]
    return net.concat(f"{scope}/concat", branches)
