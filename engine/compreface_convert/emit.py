"""Writes a simplified graph as ONNX: NCHW, with a dynamic batch and reproducible bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Levels, Node
from compreface_convert.kernels import axes, is_same, spatial, window
from compreface_convert.simplify import Traced

OPSET: Final = 17
IR_VERSION: Final = 8
PRODUCER: Final = "compreface-engine"
_SMALL: Final = 1024
"""Tensors of up to this many values (slopes, biases) stay float32 where weights become float16."""

_UNARY: Final = {
    "Relu": "Relu", "Abs": "Abs", "Neg": "Neg", "Exp": "Exp", "Sqrt": "Sqrt", "Tanh": "Tanh",
    "Sigmoid": "Sigmoid",
}  # fmt: skip
_BINARY: Final = {
    "Add": "Add", "Sub": "Sub", "Mul": "Mul", "RealDiv": "Div", "Maximum": "Max", "Minimum": "Min",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """The form of the ONNX file; output names in the order of the graph's outputs."""

    picture: tuple[int, int, int]  # height, width, channels
    outputs: tuple[str, ...]
    half_weights: bool = False
    transposed: bool = False  # the source network takes pictures with x before y
    dynamic_size: bool = False
    prelu: str = "convolutions"  # or "operator"


@dataclass(slots=True)
class Builder:
    """The nodes and tensors of an ONNX graph, under short names that do not change between runs."""

    half_weights: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def tensor(self, value: Array) -> str:
        name = f"w{len(self.tensors)}"
        kept = np.ascontiguousarray(value)
        if self.half_weights and kept.dtype == np.float32 and kept.size > _SMALL:
            self.tensors.append(numpy_helper.from_array(kept.astype(np.float16), name))
            return self.node("Cast", [name], to=TensorProto.FLOAT)
        self.tensors.append(numpy_helper.from_array(kept, name))
        return name

    def weights(self, value: Array, levels: Levels | None) -> str:
        """A tensor of weights, stored as the integers it was published in if it still equals them.

        It is dequantised by Cast, Sub and Mul, which ONNX Runtime folds at load. DequantizeLinear
        would turn into quantised arithmetic, slower and less exact for a network that was not
        trained for it.
        """
        whole = None if levels is None else levels.stored(value)
        if levels is None or whole is None:
            return self.tensor(value)
        zero, scale = (
            np.array(x, np.float32) for x in (-levels.least / levels.scale, levels.scale)
        )
        x = self.node("Cast", [self.tensor(whole)], to=TensorProto.FLOAT)
        return self.node("Mul", [self.node("Sub", [x, self.tensor(zero)]), self.tensor(scale)])

    def node(self, op: str, inputs: Sequence[str], output: str = "", **attrs: Any) -> str:
        name = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attrs))
        return name

    def prelu(self, x: str, slope: Array) -> str:
        """PReLU as x + (1 - s) * relu(-x) in 1x1 depthwise convolutions, fast in ONNX Runtime."""
        below = self.node("Relu", [self._scaled(x, np.full_like(slope, -1.0))])
        return self.node("Add", [self._scaled(below, 1 - slope), x])

    def _scaled(self, x: str, factor: Array) -> str:
        """Each channel of `x` multiplied by its factor."""
        channels = factor.shape[0]
        kernel = self.tensor(factor.astype(np.float32).reshape(channels, 1, 1, 1))
        return self.node("Conv", [x, kernel], group=channels, kernel_shape=[1, 1])


@np.errstate(all="ignore")  # verification refuses values that are not finite
def emit(traced: Traced, form: Form) -> onnx.ModelProto:
    """The ONNX model, with the input `input` [batch, C, H, W] float32."""
    if len(traced.graph.outputs) != len(form.outputs):
        raise ConvertError(f"the network has {len(traced.graph.outputs)} outputs")
    return _Emitter(traced, form).model()


class _Emitter:
    def __init__(self, traced: Traced, form: Form) -> None:
        self._graph, self._shapes, self._form = traced.graph, traced.shapes, form
        self._build = Builder(form.half_weights)
        self._names: dict[str, str] = dict.fromkeys(traced.graph.inputs, "input")
        self._axes = (0, 3, 2, 1) if form.transposed else (0, 3, 1, 2)
        self._kernel_axes = (3, 2, 1, 0) if form.transposed else (3, 2, 0, 1)

    def model(self) -> onnx.ModelProto:
        graph, form = self._graph, self._form
        for node in graph.nodes.values():
            self._names[node.name] = self._emit(node)
        final = {self._names[name]: form.outputs[i] for i, name in enumerate(graph.outputs)}
        if len(final) != len(form.outputs):
            raise ConvertError("two outputs of the network are the same value")
        for made in self._build.nodes:
            for names in (made.input, made.output):
                names[:] = [final.get(name, name) for name in names]
        height, width = self._spatial(form.picture[:2])
        channels = form.picture[2]
        size: list[int | str] = ["height", "width"] if form.dynamic_size else [height, width]
        inputs = [info("input", ["batch", channels, *size])]
        outputs = [
            info(name, self._declared(source))
            for name, source in zip(form.outputs, graph.outputs, strict=True)
        ]
        made_graph = helper.make_graph(
            self._build.nodes, "network", inputs, outputs, self._build.tensors
        )
        return finish(made_graph)

    def _declared(self, source: str) -> list[int | str]:
        shape = [self._shapes[source][axis] for axis in self._order(source)]
        if self._form.dynamic_size and len(shape) == 4:
            return ["batch", shape[1], "rows", "columns"]
        return ["batch", *shape[1:]]

    def _order(self, name: str) -> tuple[int, ...]:
        rank = len(self._shapes[name])
        return self._axes if rank == 4 else tuple(range(rank))

    def _emit(self, node: Node) -> str:
        inputs = [self._names[name] for name in node.inputs]
        op, build = node.op, self._build
        if op in _UNARY:
            return build.node(_UNARY[op], inputs)
        if op in ("Conv2D", "DepthwiseConv2dNative"):
            return self._conv(node, inputs[0])
        if op == "MatMul":
            return self._dense(node, inputs[0])
        if op in ("MaxPool", "AvgPool"):
            attrs = self._window(node, window(node.attrs, "ksize"))
            name = "MaxPool" if op == "MaxPool" else "AveragePool"
            return build.node(name, inputs, **attrs)
        if op == "Relu6":
            limits = [build.tensor(np.array(v, np.float32)) for v in (0, 6)]
            return build.node("Clip", [*inputs, *limits])
        if op == "Affine":
            return self._affine(node, inputs[0])
        if op == "Prelu":
            return self._prelu(node, inputs[0])
        if op in _BINARY:
            extra = [self._constant(v, node) for v in node.attrs.get("constants", ())]
            self._same_rank(node)
            return build.node(_BINARY[op], [*inputs, *extra])
        if op == "Square":
            return build.node("Mul", inputs * 2)
        if op == "Rsqrt":
            return build.node("Reciprocal", [build.node("Sqrt", inputs)])
        if op == "Softmax":
            rank = len(self._shapes[node.name])
            return build.node("Softmax", inputs, axis=1 if rank == 4 else rank - 1)
        if op in ("Mean", "Sum", "Max"):
            return self._reduce(node, inputs[0])
        if op == "ConcatV2":
            rank = len(self._shapes[node.name])
            axis = self._order(node.name).index(axes(node.attrs["constants"][0], rank)[0])
            return build.node("Concat", inputs, axis=axis)
        if op == "Pad":
            pairs = node.attrs["constants"][0][list(self._order(node.inputs[0]))]
            pads = build.tensor(pairs.T.reshape(-1).astype(np.int64))
            return build.node("Pad", [inputs[0], pads])
        if op == "Channels":
            ends = [[node.attrs["start"]], [node.attrs["stop"]], [1]]
            extra = [build.tensor(np.array(value, np.int64)) for value in ends]
            return build.node("Slice", [inputs[0], *extra])
        if op == "Reshape":
            return self._reshape(node, inputs[0])
        raise ConvertError(f"the operator {op} (node '{node.name}') is not supported")

    def _constant(self, value: Array, node: Node) -> str:
        """A scalar, or a value per channel, in the layout of the node's result."""
        rank = len(self._shapes[node.name])
        shape = (-1, 1, 1) if value.size > 1 and rank == 4 else value.shape
        return self._build.tensor(value.astype(np.float32).reshape(shape))

    def _same_rank(self, node: Node) -> None:
        if len({len(self._shapes[name]) for name in (*node.inputs, node.name)}) != 1:
            raise ConvertError(f"{node.op} (node '{node.name}') mixes ranks")

    def _spatial(self, pair: Sequence[int]) -> list[int]:
        return list(pair)[::-1] if self._form.transposed else list(pair)

    def _window(self, node: Node, kernel: tuple[int, int]) -> dict[str, Any]:
        strides, dilations = window(node.attrs, "strides"), window(node.attrs, "dilations")
        same = is_same(node.attrs)
        attrs: dict[str, Any] = {
            "kernel_shape": self._spatial(kernel),
            "strides": self._spatial(strides),
        }
        if dilations != (1, 1):
            attrs["dilations"] = self._spatial(dilations)
        if same and self._form.dynamic_size:
            attrs["auto_pad"] = "SAME_UPPER"
        elif same:
            sizes = self._shapes[node.inputs[0]][1:3]
            pads = [
                spatial(sizes[i], kernel[i], strides[i], dilations[i], True)[1:] for i in (0, 1)
            ]
            before, after = zip(*pads, strict=True)
            if any(before) or any(after):
                attrs["pads"] = self._spatial(before) + self._spatial(after)
        return attrs

    def _conv(self, node: Node, x: str) -> str:
        kernel = node.attrs["kernel"].astype(np.float32)
        size = kernel.shape[:2]
        attrs = self._window(node, (size[0], size[1]))
        if node.op == "DepthwiseConv2dNative":
            attrs["group"] = kernel.shape[2]
            kernel = kernel.reshape(*size, 1, -1)
        return self._weighted("Conv", x, kernel.transpose(self._kernel_axes), node, attrs)

    def _weighted(self, op: str, x: str, kernel: Array, node: Node, attrs: dict[str, Any]) -> str:
        bias = node.attrs["bias"].astype(np.float32)
        names = [x, self._build.weights(kernel, node.attrs.get("levels"))]
        if np.any(bias):
            names.append(self._build.tensor(bias))
        return self._build.node(op, names, **attrs)

    def _dense(self, node: Node, x: str) -> str:
        kernel: Array = node.attrs["kernel"].astype(np.float32)
        source = self._graph.nodes.get(node.inputs[0])
        if source is not None and source.op == "Reshape":
            shape = self._shapes[source.inputs[0]]
            if len(shape) == 4 and len(self._shapes[node.inputs[0]]) == 2:
                # The rows are in the order of the source's layout; sort them by the new layout.
                rows = kernel.reshape(*shape[1:], -1).transpose(*(a - 1 for a in self._axes[1:]), 3)
                kernel = rows.reshape(kernel.shape)
                x = self._build.node("Flatten", [self._names[source.inputs[0]]])
        return self._weighted("Gemm", x, kernel, node, {})

    def _affine(self, node: Node, x: str) -> str:
        for op, key, neutral in (("Mul", "scale", 1.0), ("Add", "offset", 0.0)):
            if np.any(node.attrs[key] != neutral):
                x = self._build.node(op, [x, self._constant(node.attrs[key], node)])
        return x

    def _prelu(self, node: Node, x: str) -> str:
        shape = self._shapes[node.name]
        slope = np.broadcast_to(node.attrs["slope"], shape[-1:])
        if len(shape) == 4 and self._form.prelu == "convolutions":
            return self._build.prelu(x, slope)
        return self._build.node("PRelu", [x, self._constant(slope, node)])

    def _reduce(self, node: Node, x: str) -> str:
        order, keep = self._order(node.inputs[0]), bool(node.attrs.get("keep_dims"))
        reduced = axes(node.attrs["constants"][0], len(order))
        if len(order) == 4 and reduced == (1, 2) and node.op == "Mean":
            pooled = self._build.node("GlobalAveragePool", [x])
            return pooled if keep else self._build.node("Flatten", [pooled])
        if len(order) == 4 and not keep:
            raise ConvertError(
                f"{node.op} (node '{node.name}') over {list(reduced)} is not supported"
            )
        where = sorted(order.index(axis) for axis in reduced)
        if node.op == "Sum":
            names = [x, self._build.tensor(np.array(where, np.int64))]
            return self._build.node("ReduceSum", names, keepdims=int(keep))
        op = "ReduceMean" if node.op == "Mean" else "ReduceMax"
        return self._build.node(op, [x], axes=where, keepdims=int(keep))

    def _reshape(self, node: Node, x: str) -> str:
        source, target = self._shapes[node.inputs[0]], self._shapes[node.name]
        if source == target:
            return x
        if len(source) == 4 and len(target) == 2:
            if (
                all(self._graph.nodes[user].op == "MatMul" for user in self._users(node.name))
                and node.name not in self._graph.outputs
            ):
                return x  # the dense layer flattens its input
            if source[1:3] != (1, 1):
                back = [self._axes.index(axis) for axis in range(4)]
                x = self._build.node("Transpose", [x], perm=back)
            return self._build.node("Flatten", [x])
        if len(target) == 4 and (len(source) != 2 or target[1:3] != (1, 1)):
            raise ConvertError(f"Reshape (node '{node.name}') to {list(target)} is not supported")
        sizes = [0, *(target[axis] for axis in self._order(node.name)[1:])]
        return self._build.node("Reshape", [x, self._build.tensor(np.array(sizes, np.int64))])

    def _users(self, name: str) -> list[str]:
        return [node.name for node in self._graph.nodes.values() if name in node.inputs]


def info(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def finish(graph: onnx.GraphProto, opsets: Mapping[str, int] | None = None) -> onnx.ModelProto:
    """The model of a graph; whatever could differ between two runs is fixed."""
    imports = [helper.make_opsetid(*item) for item in (opsets or {"": OPSET}).items()]
    model = helper.make_model(graph, opset_imports=imports, producer_name=PRODUCER)
    model.ir_version = IR_VERSION
    return model


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The serialised model; equal models give equal bytes."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data
