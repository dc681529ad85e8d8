"""TensorFlow-Slim's Inception v3 at inference, with the variables of a checkpoint."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from compreface_convert.graph import Graph
from compreface_convert.layers import INPUT, Net, Variables

# Szegedy et al. 2015 (arXiv 1512.00567). The scope names, the irregular ones too, are those of
# TensorFlow-Slim's nets/inception_v3.py, since the variables are named by them.
_FEATURES: Final = 2048
OUTPUT: Final = "Softmax"
"""The name of the softmax in the original graph."""

Layer: TypeAlias = tuple[str, int, tuple[int, int]] | tuple[str, int, tuple[int, int], int]
"""The scope, channels and kernel of a layer and, if it is not padded, its stride."""


class _Net(Net):
    """The name of a layer is its scope."""

    def layer(
        self, x: str, name: str, channels: int, kernel: tuple[int, int], stride: int = 0
    ) -> str:
        """Convolution, batch norm without gamma, ReLU; a stride means VALID padding, else SAME."""
        weights = self.variable(f"{name}/weights", (*kernel, self.channels[x], channels))
        gamma = self.constant(f"{name}/ones", np.ones(channels, np.float32))
        statistics = [
            self.variable(f"{name}/BatchNorm/{part}", (channels,))
            for part in ("beta", "moving_mean", "moving_variance")
        ]
        return self.conv_norm_relu(x, name, weights, (gamma, *statistics), stride)

    def tower(self, x: str, scope: str, *layers: Layer) -> str:
        for name, *shape in layers:
            x = self.layer(x, f"{scope}/{name}", *shape)  # type: ignore[arg-type]
        return x

    def pooled(self, x: str, scope: str, layer: str, channels: int) -> str:
        x = self.pool(x, f"{scope}/AvgPool_0a_3x3", "AvgPool", 1, b"SAME")
        return self.layer(x, f"{scope}/{layer}", channels, (1, 1))


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
    x = net.layer(x, f"{scope}/Conv2d_1a_3x3", 32, (3, 3), 2)
    x = net.layer(x, f"{scope}/Conv2d_2a_3x3", 32, (3, 3), 1)
    x = net.layer(x, f"{scope}/Conv2d_2b_3x3", 64, (3, 3))
    x = net.pool(x, f"{scope}/MaxPool_3a_3x3", "MaxPool", 2, b"VALID")
    x = net.layer(x, f"{scope}/Conv2d_3b_1x1", 80, (1, 1), 1)
    x = net.layer(x, f"{scope}/Conv2d_4a_3x3", 192, (3, 3), 1)
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
        net.layer(first, f"{scope}/Branch_1/Conv2d_0b_1x3", 384, (1, 3)),
        net.layer(first, f"{scope}/Branch_1/{tall}", 384, (3, 1)),
        net.layer(second, f"{scope}/Branch_2/Conv2d_0c_1x3", 384, (1, 3)),
        net.layer(second, f"{scope}/Branch_2/Conv2d_0d_3x1", 384, (3, 1)),
        net.pooled(x, f"{scope}/Branch_3", "Conv2d_0b_1x1", 192),
    ]
    return net.concat(f"{scope}/concat", branches)
