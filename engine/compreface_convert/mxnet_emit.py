"""Writes an MXNet network as ONNX, with a dynamic batch and, on request, a dynamic size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper

from compreface_convert.emit import Builder, finish, info
from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array
from compreface_convert.mxnet_graph import Attrs, Network, Step
from compreface_convert.mxnet_kernels import (
    EPS,
    L2_EPS,
    SLOPE,
    channel_axis,
    crop_offset,
    expect,
    is_full,
    l2_axes,
    reshape_target,
    upsampling_scale,
)
from compreface_convert.mxnet_run import shapes

_ACTIVATIONS: Final = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus",
    "softsign": "Softsign",
}  # fmt: skip
_PLAIN: Final = {
    "relu": "Relu", "sigmoid": "Sigmoid", "elemwise_add": "Add", "elemwise_sub": "Sub",
    "elemwise_mul": "Mul", "add_n": "Sum", "Flatten": "Flatten",
}  # fmt: skip
_SCALAR: Final = {
    "_plus_scalar": "Add", "_minus_scalar": "Sub", "_mul_scalar": "Mul", "_div_scalar": "Div",
}  # fmt: skip
_LINEAR: Final = ("Convolution", "FullyConnected")
_OTHER: Final = 7
"""Steps to a second picture size, which shows what sizes of an output depend on the picture's."""


@np.errstate(all="ignore")  # verification refuses values that are not finite
def emit(
    network: Network, picture: tuple[int, int, int], *, free_size: bool, prelu: str = "convolutions"
) -> onnx.ModelProto:
    """The ONNX model: input `input` [batch, C, H, W] float32, outputs named as in the network.

    `picture` [C, H, W] is the size of its input, or only the size to trace it with if `free_size`.
    `prelu` is "convolutions", or "operator" for ONNX's own PRelu.
    """
    return _Emitter(network, picture, free_size, prelu).model()


class _Emitter:
    def __init__(
        self, network: Network, picture: tuple[int, int, int], free_size: bool, prelu: str
    ) -> None:
        self._network, self._picture, self._free, self._prelu = network, picture, free_size, prelu
        self._shapes = shapes(network, picture, 2)
        self._steps = {step.name: step for step in network.steps}
        self._uses = Counter(name for step in network.steps for name in step.inputs)
        self._uses.update(network.outputs.values())
        self._users = {name: step for step in network.steps for name in step.inputs}
        self._build = Builder()
        self._names = {network.picture: "input"}

    def model(self) -> onnx.ModelProto:
        for step in self._network.steps:
            if not self._folds(step):
                self._names[step.name] = self._emit(step)
        final = {self._names[value]: name for name, value in self._network.outputs.items()}
        if len(final) != len(self._network.outputs):
            raise ConvertError("two outputs of the network are the same value")
        for node in self._build.nodes:
            for names in (node.input, node.output):
                names[:] = [final.get(name, name) for name in names]
        channels, *size = self._picture
        sides: list[int | str] = ["height", "width"] if self._free else [*size]
        graph = helper.make_graph(
            self._build.nodes,
            "network",
            [info("input", ["batch", channels, *sides])],
            self._declared(),
            self._build.tensors,
        )
        return finish(graph)

    def _declared(self) -> list[onnx.ValueInfoProto]:
        channels, height, width = self._picture
        other: Mapping[str, tuple[int, ...]] = self._shapes
        if self._free:
            other = shapes(self._network, (channels, height + _OTHER * 8, width + _OTHER * 16), 2)
        made = []
        for name, value in self._network.outputs.items():
            shape, other_shape = self._shapes[value], other[value]
            begins = shape[0] == other_shape[0] == 2
            expect(begins, f"the first axis of the output '{name}' is not the batch")
            sizes: list[int | str] = [
                first if first == second else f"{name}_{axis}"
                for axis, (first, second) in enumerate(zip(shape, other_shape, strict=True))
            ]
            made.append(info(name, ["batch", *sizes[1:]]))
        return made

    def _folds(self, step: Step) -> bool:
        """Whether the step is folded into the batch norm after it, its only user."""
        user = self._users.get(step.name)
        return (
            step.op in _LINEAR
            and self._uses[step.name] == 1
            and user is not None
            and user.op == "BatchNorm"
            and user.inputs[0] == step.name
        )

    def _weight(self, step: Step, index: int) -> Array:
        name = step.inputs[index]
        if name not in self._network.weights:
            raise ConvertError(f"the weights of {step.op} (node '{step.name}') are not constant")
        return np.asarray(self._network.weights[name], np.float64)

    def _number(self, value: float) -> str:
        return self._build.tensor(np.array(value, np.float32))

    def _whole(self, *values: int) -> str:
        return self._build.tensor(np.array(values, np.int64))

    def _input(self, step: Step, index: int = 0) -> str:
        """The ONNX name of an input; weights where a value is expected become tensors."""
        name = step.inputs[index]
        if name not in self._names:
            self._names[name] = self._build.tensor(self._weight(step, index).astype(np.float32))
        return self._names[name]

    def _emit(self, step: Step) -> str:
        op, attrs, build = step.op, step.attrs, self._build
        if op in _PLAIN:
            return build.node(_PLAIN[op], [self._input(step, i) for i in range(len(step.inputs))])
        if op in _SCALAR:
            return build.node(
                _SCALAR[op], [self._input(step), self._number(attrs.real("scalar", 0))]
            )
        if op in _LINEAR:
            return self._linear(step, np.ones(()), np.zeros(()))
        makers = {
            "BatchNorm": self._batch_norm, "LeakyReLU": self._leaky, "Pooling": self._pooling,
            "UpSampling": self._upsampling, "Crop": self._crop, "L2Normalization": self._l2,
            "SoftmaxActivation": self._softmax, "SoftmaxOutput": self._softmax,
        }  # fmt: skip
        if op in makers:
            return makers[op](step)
        if op == "Activation":
            return build.node(_ACTIVATIONS[attrs.text("act_type", "")], [self._input(step)])
        if op == "Concat":
            inputs = [self._input(step, i) for i in range(len(step.inputs))]
            return build.node("Concat", inputs, axis=attrs.whole("dim", 1))
        if op == "Reshape":
            return build.node("Reshape", [self._input(step), self._whole(*reshape_target(attrs))])
        if op == "softmax":
            return build.node("Softmax", [self._input(step)], axis=attrs.whole("axis", -1))
        if op == "clip":
            ends = [self._number(attrs.real(key, 0)) for key in ("a_min", "a_max")]
            return build.node("Clip", [self._input(step), *ends])
        raise ConvertError(f"the operator {op} (node '{step.name}') is not supported")

    def _linear(self, step: Step, scale: Array, offset: Array) -> str:
        """A convolution or dense layer, with a `scale` and an `offset` per channel folded in."""
        weights = self._weight(step, 1)
        bias = np.zeros(len(weights))
        if not step.attrs.flag("no_bias", False):
            bias = self._weight(step, 2).reshape(-1)
        weights = weights * scale.reshape(-1, *[1] * (weights.ndim - 1))
        bias = bias * scale + offset
        x = self._input(step)
        if step.op == "FullyConnected":
            if len(self._shapes[step.inputs[0]]) != 2:
                x = self._build.node("Flatten", [x])
            kind, attrs = "Gemm", dict[str, Any](transB=1)
        else:
            kind, attrs = "Conv", self._window(step.attrs, weights.shape[2:])
            group, dilate = step.attrs.whole("num_group", 1), step.attrs.pair("dilate", 1, 1)
            attrs |= {"group": group} if group > 1 else {}
            attrs |= {"dilations": list(dilate)} if dilate != (1, 1) else {}
        names = [x, self._build.tensor(weights.astype(np.float32))]
        if np.any(bias):
            names.append(self._build.tensor(bias.astype(np.float32)))
        return self._build.node(kind, names, **attrs)

    def _window(self, attrs: Attrs, kernel: tuple[int, ...]) -> dict[str, Any]:
        pad = attrs.pair("pad", 0, 0)
        made: dict[str, Any] = {
            "kernel_shape": list(kernel),
            "strides": list(attrs.pair("stride", 1, 1)),
        }
        return made | ({"pads": [*pad, *pad]} if any(pad) else {})

    def _batch_norm(self, step: Step) -> str:
        channel_axis(step.attrs, len(self._shapes[step.name]))
        gamma, beta, mean, variance = (self._weight(step, i).reshape(-1) for i in range(1, 5))
        if step.attrs.flag("fix_gamma", True):
            gamma = np.ones_like(gamma)
        eps = step.attrs.real("eps", EPS)
        before = self._steps.get(step.inputs[0])
        if before is not None and self._folds(before):
            scale = gamma / np.sqrt(variance + eps)
            return self._linear(before, scale, beta - mean * scale)
        tensors = [
            self._build.tensor(part.astype(np.float32)) for part in (gamma, beta, mean, variance)
        ]
        return self._build.node("BatchNormalization", [self._input(step), *tensors], epsilon=eps)

    def _leaky(self, step: Step) -> str:
        kind, x = step.attrs.text("act_type", "leaky"), self._input(step)
        if kind != "prelu":
            op = "LeakyRelu" if kind == "leaky" else "Elu"
            return self._build.node(op, [x], alpha=step.attrs.real("slope", SLOPE))
        slope, rank = self._weight(step, 1).reshape(-1), len(self._shapes[step.name])
        if slope.size == 1:
            return self._build.node("LeakyRelu", [x], alpha=float(slope[0]))
        if rank == 4 and self._prelu == "convolutions":
            return self._build.prelu(x, slope)
        shaped = slope.astype(np.float32).reshape(-1, *[1] * (rank - 2))
        return self._build.node("PRelu", [x, self._build.tensor(shaped)])

    def _pooling(self, step: Step) -> str:
        attrs, x = step.attrs, self._input(step)
        largest = attrs.text("pool_type", "max") == "max"
        if attrs.flag("global_pool", False):
            return self._build.node("GlobalMaxPool" if largest else "GlobalAveragePool", [x])
        made = self._window(attrs, attrs.pair("kernel", 0, 1))
        if is_full(attrs):
            made["ceil_mode"] = 1
        if not largest and attrs.flag("count_include_pad", True):
            made["count_include_pad"] = 1
        return self._build.node("MaxPool" if largest else "AveragePool", [x], **made)

    def _softmax(self, step: Step) -> str:
        x, shape = self._input(step), self._shapes[step.name]
        if step.op == "SoftmaxActivation" and step.attrs.text("mode", "instance") == "instance":
            expect(len(shape) == 2, f"the softmax '{step.name}' over {len(shape)} dimensions")
        return self._build.node("Softmax", [x], axis=1)

    def _upsampling(self, step: Step) -> str:
        scale = float(upsampling_scale(step.attrs, len(step.inputs)))
        scales = self._build.tensor(np.array([1, 1, scale, scale], np.float32))
        return self._build.node(
            "Resize",
            [self._input(step), "", scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def _crop(self, step: Step) -> str:
        """The first input, cut to the height and width of the second."""
        top, left = crop_offset(step.inputs, step.attrs)
        build = self._build
        shape = build.node("Shape", [self._input(step, 1)])
        ends = build.node("Slice", [shape, self._whole(2), self._whole(4)])
        if top or left:
            ends = build.node("Add", [ends, self._whole(top, left)])
        limits = [self._whole(top, left), ends, self._whole(2, 3)]
        return build.node("Slice", [self._input(step), *limits])

    def _l2(self, step: Step) -> str:
        axes = l2_axes(step.attrs, len(self._shapes[step.name]))
        build, x = self._build, self._input(step)
        square = build.node("ReduceSum", [build.node("Mul", [x, x]), self._whole(*axes)])
        eps = self._number(step.attrs.real("eps", L2_EPS))
        return build.node("Div", [x, build.node("Sqrt", [build.node("Add", [square, eps])])])
