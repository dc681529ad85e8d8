"""Networks with the layers of published ones and seeded weights: for their speed only.

The time of a convolution does not depend on its weights, so these are as fast as the real networks
and as large in memory. Their answers mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_OPSET = 13


class _Graph:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int, fan: int = 0) -> str:
        """Values of deviation sqrt(2 / fan), as K. He and others start with; ones without `fan`."""
        values = self._rng.normal(0, (2 / fan) ** 0.5, shape) if fan else np.ones(shape)
        return self._kept(values.astype(np.float32))

    def _kept(self, values: NDArray[np.float32]) -> str:
        name = f"weight{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def convolution(
        self, x: str, wide: int, out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> str:
        """With a bias, as it is once the batch normalisation behind it is folded into it."""
        fan = wide // groups * kernel * kernel
        weight = self.weight(out, wide // groups, kernel, kernel, fan=fan)
        bias = self._kept(np.zeros(out, np.float32))
        pads = [kernel // 2] * 4
        return self.add(
            "Conv", x, weight, bias, pads=pads, strides=[stride] * 2, group=groups,
            kernel_shape=[kernel] * 2,
        )  # fmt: skip

    def normalisation(self, x: str, wide: int) -> str:
        zeros = self._kept(np.zeros(wide, np.float32))
        ones = self.weight(wide)
        return self.add("BatchNormalization", x, ones, zeros, zeros, ones)

    def prelu(self, x: str, wide: int) -> str:
        return self.add("PRelu", x, self._kept(np.full((wide, 1, 1), 0.25, np.float32)))

    def dense(self, x: str, wide: int, out: int) -> str:
        flat = self.add("Flatten", x)
        return self.add("Gemm", flat, self.weight(out, wide, fan=wide), transB=1)

    def write(self, output: str, side: int, values: int, path: Path) -> None:
        """A file with a free batch size, for pictures of that side in pixels."""
        self._nodes.append(helper.make_node("Identity", [output], ["output"]))
        graph = helper.make_graph(
            self._nodes,
            "seeded",
            [_value("input", "N", 3, side, side)],
            [_value("output", "N", values)],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        model.ir_version = 8
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path))


def _value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def iresnet(units: tuple[int, int, int, int]) -> Callable[[Path], None]:
    """ArcFace's ResNet (J. Deng and others; InsightFace's iresnet.py) of 512 values.

    With the units of R100 the file has 260.6 MB; AuraFace's glintr100.onnx has 260.7.
    """

    def write(path: Path) -> None:
        graph = _Graph(sum(units))
        x, wide = graph.prelu(graph.convolution("input", 3, 64), 64), 64
        for count, out in zip(units, (64, 128, 256, 512), strict=True):
            for number in range(count):
                stride = 2 if number == 0 else 1
                inner = graph.normalisation(x, wide)
                inner = graph.prelu(graph.convolution(inner, wide, out), out)
                inner = graph.convolution(inner, out, out, stride=stride)
                beside = x
                if number == 0:
                    beside = graph.convolution(x, wide, out, kernel=1, stride=2)
                x, wide = graph.add("Add", inner, beside), out
        x = graph.normalisation(x, 512)
        graph.write(graph.dense(x, 512 * 7 * 7, 512), 112, 512, path)

    return write


def mobilenet(wide: int, side: int, first_stride: int, values: int) -> Callable[[Path], None]:
    """MobileNet (A. Howard and others) that begins with `wide` channels, and one dense layer.

    With 32, 112, 1 and 128 it is InsightFace's fmobilenet.py and 38.5 MB; SFace's file has 38.7.
    """

    def write(path: Path) -> None:
        graph, channels = _Graph(1), wide
        x = graph.prelu(graph.convolution("input", 3, wide, stride=first_stride), wide)
        for times, stride in _MOBILENET:
            x = graph.convolution(x, channels, channels, stride=stride, groups=channels)
            x = graph.prelu(x, channels)
            x = graph.convolution(x, channels, times * wide, kernel=1)
            channels = times * wide
            x = graph.prelu(x, channels)
        left = side // (16 * first_stride)
        graph.write(graph.dense(x, channels * left * left, values), side, values, path)

    return write


# The channels of each layer over those of the first, and its stride.
_MOBILENET = (
    (2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *[(16, 1)] * 5, (32, 2), (32, 1),
)  # fmt: skip
