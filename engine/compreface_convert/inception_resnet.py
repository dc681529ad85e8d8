"""FaceNet, the Inception-ResNet v1 of facenet-pytorch, with the tensors of a state dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Graph
from compreface_convert.layers import INPUT, Net

# Szegedy et al. 2016 (arXiv 1602.07261), as David Sandberg trained it; the names are those of
# timesler's facenet-pytorch, models/inception_resnet_v1.py, by which a state dict is saved.
OUTPUT: Final = "embeddings"
_LEFT_OUT: Final = ("logits.",)
"""The head of the training's classes."""
_COUNTERS: Final = ".num_batches_tracked"
_NORM: Final = ("weight", "bias", "running_mean", "running_var")
_DIMENSION: Final = 512
_SMALLEST: Final = 1e-24
"""The least square of a norm that divides: 1e-12, PyTorch's `normalize`, squared."""

Layer: TypeAlias = tuple[int, tuple[int, int]] | tuple[int, tuple[int, int], int]
"""Channels and kernel and, if the layer is not padded, its stride."""


class _Net(Net):
    """A branch of several layers numbers them; a branch of one has no number."""

    def layer(
        self, x: str, place: str, channels: int, kernel: tuple[int, int], stride: int = 0
    ) -> str:
        weights = self.kernel(f"{place}.conv.weight", (channels, self.channels[x], *kernel))
        norm = self.statistics(f"{place}.bn", channels)
        return self.conv_norm_relu(x, place, weights, norm, stride)

    def kernel(self, name: str, shape: tuple[int, ...]) -> str:
        """The weights of a convolution or dense layer, stored with the output channels first."""
        value = self.value(name, shape)
        return self.constant(name, np.moveaxis(value, (0, 1), (-1, -2)))

    def statistics(self, place: str, channels: int) -> tuple[str, ...]:
        return tuple(self.variable(f"{place}.{part}", (channels,)) for part in _NORM)

    def branches(self, x: str, place: str, branches: Sequence[Sequence[Layer]]) -> list[str]:
        ends = []
        for i, layers in enumerate(branches):
            y = x
            for j, layer in enumerate(layers):
                number = f".{j}" if len(layers) > 1 else ""
                y = self.layer(y, f"{place}.branch{i}{number}", *layer)
            ends.append(y)
        return ends

    def block(
        self, x: str, place: str, share: float, *branches: Sequence[Layer], relu: bool = True
    ) -> str:
        """A residual block: branches, joined by a 1x1 convolution, added to their input."""
        y = self.concat(f"{place}/concat", self.branches(x, place, branches))
        inside, channels = self.channels[y], self.channels[x]
        weights = self.kernel(f"{place}.conv2d.weight", (channels, inside, 1, 1))
        y = self.conv(y, f"{place}/Conv2D", weights)
        bias = self.variable(f"{place}.conv2d.bias", (channels,))
        y = self.add(f"{place}/BiasAdd", "BiasAdd", y, bias)
        factor = self.constant(f"{place}/share", np.array(share, np.float32))
        y = self.add(f"{place}/Mul", "Mul", y, factor)
        y = self.add(f"{place}/Add", "Add", x, y)
        return self.add(f"{place}/Relu", "Relu", y) if relu else y

    def reduction(self, x: str, place: str, *branches: Sequence[Layer]) -> str:
        """Branches and a max pooling, side by side, of half the height and width."""
        ends = self.branches(x, place, branches)
        ends.append(self.pool(x, f"{place}/MaxPool", "MaxPool", 2, b"VALID"))
        return self.concat(f"{place}/concat", ends)


def inception_resnet_v1(weights: Mapping[str, Array]) -> Graph:
    """The graph [N, H, W, 3] -> embeddings [N, 512] of unit length.

    Raises ConvertError for a tensor that is missing, has another shape or is not the network's.
    """
    left = dict(weights)

    def tensor(name: str) -> Array:
        if name not in left:
            raise ConvertError(f"the state dict has no tensor '{name}'")
        value = left.pop(name)
        return value.astype(np.float32, copy=False) if value.dtype.kind == "f" else value

    net = _Net(tensor)
    _layers(net)
    some = [n for n in left if not n.startswith(_LEFT_OUT) and not n.endswith(_COUNTERS)]
    if some:
        names = ", ".join(sorted(some)[:3])[:300]
        raise ConvertError(f"the state dict has tensors that inception_resnet_v1 has not: {names}")
    return Graph(net.nodes, net.constants, {INPUT: (None, None, None, 3)}, (OUTPUT,))


def _layers(net: _Net) -> None:
    x = net.layer(INPUT, "conv2d_1a", 32, (3, 3), 2)
    x = net.layer(x, "conv2d_2a", 32, (3, 3), 1)
    x = net.layer(x, "conv2d_2b", 64, (3, 3))
    x = net.pool(x, "maxpool_3a", "MaxPool", 2, b"VALID")
    x = net.layer(x, "conv2d_3b", 80, (1, 1), 1)
    x = net.layer(x, "conv2d_4a", 192, (3, 3), 1)
    x = net.layer(x, "conv2d_4b", 256, (3, 3), 2)
    for i in range(5):
        x = net.block(
            x, f"repeat_1.{i}", 0.17,
            [(32, (1, 1))],
            [(32, (1, 1)), (32, (3, 3))],
            [(32, (1, 1)), (32, (3, 3)), (32, (3, 3))],
        )  # fmt: skip
    x = net.reduction(
        x, "mixed_6a",
        [(384, (3, 3), 2)],
        [(192, (1, 1)), (192, (3, 3)), (256, (3, 3), 2)],
    )  # fmt: skip
    for i in range(10):
        x = net.block(
            x, f"repeat_2.{i}", 0.10,
            [(128, (1, 1))],
            [(128, (1, 1)), (128, (1, 7)), (128, (7, 1))],
        )  # fmt: skip
    x = net.reduction(
        x, "mixed_7a",
        [(256, (1, 1)), (384, (3, 3), 2)],
        [(256, (1, 1)), (256, (3, 3), 2)],
        [(256, (1, 1)), (256, (3, 3)), (256, (3, 3), 2)],
    )  # fmt: skip
    for i in range(5):
        x = _block8(net, x, f"repeat_3.{i}", 0.20)
    # The last block adds the whole residual, and has no ReLU.
    x = _block8(net, x, "block8", 1.0, relu=False)
    x = net.add("avgpool_1a", "Mean", x, net.constant("places", np.array([1, 2], np.int32)))
    weights = net.kernel("last_linear.weight", (_DIMENSION, net.channels[x]))
    x = net.add("last_linear", "MatMul", x, weights)
    _unit(net, net.norm(x, "last_bn", net.statistics("last_bn", _DIMENSION)))


def _block8(net: _Net, x: str, place: str, share: float, *, relu: bool = True) -> str:
    return net.block(
        x, place, share,
        [(192, (1, 1))],
        [(192, (1, 1)), (192, (1, 3)), (192, (3, 1))],
        relu=relu,
    )  # fmt: skip


def _unit(net: _Net, x: str) -> None:
    """The output: each row of `x` divided by its length."""
    y = net.add("square", "Square", x)
    axis = net.constant("values", np.array([1], np.int32))
    y = net.add("sum", "Sum", y, axis, keep_dims=True)
    least = net.constant("least", np.array(_SMALLEST, np.float32))
    y = net.add("rsqrt", "Rsqrt", net.add("maximum", "Maximum", y, least))
    net.add(OUTPUT, "Mul", x, y)
