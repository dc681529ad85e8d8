"""face-api's network for age and gender at inference, with its TensorFlow.js weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Graph, Node
from tools.tfjs import Weight

# A small Xception (Chollet 2016, arXiv 1610.02357) with two dense heads. The names are those of the
# weights in @vladmandic/face-api 1.7.15, model/age_gender_model-weights_manifest.json; the order of
# the layers is that of src/xception and src/ageGenderNet in the package.
INPUT: Final = "input"
SIDE: Final = 112
OUTPUT: Final = "age_gender"
MEAN: Final = (122.782, 117.001, 104.298)  # of red, green and blue
_RANGE: Final = 255.0
_MAIN_BLOCKS: Final = 2
_FEATURES: Final = 512


class _Net:
    """A graph under construction, which takes each weight once."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        self.left = dict(weights)
        self.nodes: dict[str, Node] = {INPUT: Node(INPUT, "Placeholder", ())}
        self.constants: dict[str, Array] = {}

    def constant(self, name: str, value: Array) -> str:
        self.constants[name] = value
        self.nodes[name] = Node(name, "Const", ())
        return name

    def add(self, name: str, op: str, *inputs: str, **attrs: object) -> str:
        self.nodes[name] = Node(name, op, inputs, attrs)
        return name

    def layer(
        self, x: str, name: str, weights: str, shape: tuple[int, ...], op: str, **attrs: object
    ) -> str:
        """The operator with its kernel and the levels of that."""
        weight = self._take(weights, shape)
        kernel = self.constant(weights, weight.values)
        return self.add(name, op, x, kernel, levels=weight.levels, **attrs)

    def bias(self, x: str, name: str, weights: str, channels: int) -> str:
        values = self.constant(weights, self._take(weights, (channels,)).values)
        return self.add(name, "BiasAdd", x, values)

    def _take(self, name: str, shape: tuple[int, ...]) -> Weight:
        weight = self.left.pop(name, None)
        if weight is None:
            raise ConvertError(f"the weight '{name}' is missing: is this the age and gender model?")
        if weight.values.shape != shape or weight.values.dtype != np.float32:
            raise ConvertError(
                f"the weight '{name}' is {weight.values.dtype} {list(weight.values.shape)}, "
                f"not float32 {list(shape)}"
            )
        return weight

    def conv(self, x: str, at: str, sizes: tuple[int, int, int]) -> str:
        """A convolution of stride 2; `sizes`: side of the kernel, channels in and out."""
        side, before, channels = sizes
        shape = (side, side, before, channels)
        y = self.layer(x, f"{at}/conv", f"{at}/filters", shape, "Conv2D", **_window(2))
        return self.bias(y, at, f"{at}/bias", channels)

    def separable(self, x: str, at: str, before: int, channels: int) -> str:
        """A 3 x 3 kernel for each channel, then 1 x 1 over all of them, with a bias."""
        y = self.layer(
            x,
            f"{at}/depthwise",
            f"{at}/depthwise_filter",
            (3, 3, before, 1),
            "DepthwiseConv2dNative",
            **_window(1),
        )
        y = self.layer(
            y,
            f"{at}/pointwise",
            f"{at}/pointwise_filter",
            (1, 1, before, channels),
            "Conv2D",
            **_window(1),
        )
        return self.bias(y, at, f"{at}/bias", channels)

    def relu(self, x: str) -> str:
        return self.add(f"{x}/relu", "Relu", x)

    def reduction(self, x: str, at: str, before: int, channels: int, *, relu: bool = True) -> str:
        """Two separable convolutions and a pooling, beside one convolution: half the size."""
        y = self.separable(self.relu(x) if relu else x, f"{at}/separable_conv0", before, channels)
        y = self.separable(self.relu(y), f"{at}/separable_conv1", channels, channels)
        y = self.add(f"{at}/pool", "MaxPool", y, ksize=[1, 3, 3, 1], **_window(2))
        side = self.conv(x, f"{at}/expansion_conv", (1, before, channels))
        return self.add(at, "Add", y, side)

    def main(self, x: str, at: str, channels: int) -> str:
        """Three separable convolutions, added to their input."""
        y = x
        for i in range(3):
            y = self.separable(self.relu(y), f"{at}/separable_conv{i}", channels, channels)
        return self.add(at, "Add", y, x)

    def dense(self, x: str, at: str, values: int) -> str:
        y = self.layer(x, f"{at}/product", f"{at}/weights", (_FEATURES, values), "MatMul")
        return self.bias(y, at, f"{at}/bias", values)


def tinyxception(weights: Mapping[str, Weight]) -> Graph:
    """The graph [N, 112, 112, 3] RGB 0..255 -> [N, 3]: years, share of male, share of female.

    Raises ConvertError for a weight that is missing, unknown or of another shape.
    """
    net = _Net(weights)
    mean = net.constant("mean", np.array(MEAN, np.float32))
    x = net.add("centred", "Sub", INPUT, mean)
    x = net.add("scaled", "RealDiv", x, net.constant("range", np.array(_RANGE, np.float32)))
    x = net.relu(net.conv(x, "entry_flow/conv_in", (3, 3, 32)))
    x = net.reduction(x, "entry_flow/reduction_block_0", 32, 64, relu=False)
    x = net.reduction(x, "entry_flow/reduction_block_1", 64, 128)
    for i in range(_MAIN_BLOCKS):
        x = net.main(x, f"middle_flow/main_block_{i}", 128)
    x = net.reduction(x, "exit_flow/reduction_block", 128, 256)
    x = net.relu(net.separable(x, "exit_flow/separable_conv", 256, _FEATURES))
    strides = {"strides": [1, 2, 2, 1], "padding": b"VALID"}
    x = net.add("pooled", "AvgPool", x, ksize=[1, 7, 7, 1], **strides)
    x = net.add("features", "Squeeze", x, squeeze_dims=[1, 2])
    years = net.dense(x, "fc/age", 1)
    shares = net.add("gender", "Softmax", net.dense(x, "fc/gender", 2))
    axis = net.constant("axis", np.array(1, np.int32))
    net.add(OUTPUT, "ConcatV2", years, shares, axis)
    if net.left:
        raise ConvertError(f"the weight '{min(net.left)}' belongs to no layer of this network")
    return Graph(net.nodes, net.constants, {INPUT: (None, SIDE, SIDE, 3)}, (OUTPUT,))


def _window(stride: int) -> dict[str, object]:
    return {"strides": [1, stride, stride, 1], "padding": b"SAME"}
