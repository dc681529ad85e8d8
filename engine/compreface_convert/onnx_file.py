"""Prepares a user's ONNX file: checks it, makes its batch dynamic and its PReLU fast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper, shape_inference

from compreface_convert.errors import ConvertError
from compreface_convert.proof import session

_MAX_BYTES: Final = (1 << 31) - 1  # protobuf's own limit


@dataclass(frozen=True, slots=True)
class OnnxInfo:
    """The names of the picture's input and of the outputs; `batch` is None if it is dynamic."""

    input: str
    outputs: tuple[str, ...]
    batch: int | None


def parse(data: bytes) -> onnx.ModelProto:
    """The model in `data`. Raises ConvertError for a broken file, and for weights outside it."""
    if len(data) > _MAX_BYTES:
        raise ConvertError("an ONNX file of more than 2 GiB is not supported")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ConvertError("not an ONNX file, or a file that is cut short") from error
    if not model.graph.node or not model.opset_import:
        raise ConvertError("not an ONNX file: it has no network")
    for tensor in _tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise ConvertError(
                f"the tensor '{tensor.name}' is in another file; give one file with all weights"
            )
    return model


def _graphs(model: onnx.ModelProto) -> Iterator[Any]:
    """Every graph and function body, nested ones too."""
    stack: list[Any] = [model.graph, *model.functions]
    while stack:
        graph = stack.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    stack.append(attribute.g)
                stack.extend(attribute.graphs)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in _graphs(model):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def inspect(
    model: onnx.ModelProto, data: bytes, size: int, layout: str, *, one_output: bool
) -> OnnxInfo:
    """Check the file against its entry: a single float32 picture in, float32 values out.

    Height and width must be dynamic if `size` is 0. `one_output`: it must have a single output, as
    a calculator has. Raises ConvertError.
    """
    kinds = {node.op_type for graph in _graphs(model) for node in graph.node}
    if "DynamicQuantizeLinear" in kinds:
        raise ConvertError(
            "the network is quantised at run time (DynamicQuantizeLinear) over a whole batch, so "
            "faces would depend on each other; give the float32 file that it was made from"
        )
    runner = session(data)
    inputs, outputs = runner.get_inputs(), runner.get_outputs()
    if len(inputs) != 1 or (one_output and len(outputs) != 1):
        names = ", ".join(item.name for item in (*inputs, *outputs))
        raise ConvertError(
            f"the network must have a single input{' and output' if one_output else ''}; it has "
            f"{len(inputs)} and {len(outputs)} ({names})"
        )
    if any(item.type != "tensor(float)" for item in (*inputs, *outputs)):
        raise ConvertError("the input and the outputs of the network must be float32")
    shape = [side if isinstance(side, int) and side > 0 else None for side in inputs[0].shape]
    sides: list[int | None] = [size or None] * 2
    expected: list[int | None] = [3, *sides] if layout == "nchw" else [*sides, 3]
    if len(shape) != 4 or any(
        side is not None and side != need for side, need in zip(shape[1:], expected, strict=True)
    ):
        says = f"{size}x{size}" if size else "any height and width"
        needs = ", ".join(str(need or "?") for need in expected)
        raise ConvertError(
            f"the input '{inputs[0].name}' has the shape {inputs[0].shape}; the entry says "
            f"{layout} of {says}, that is [N, {needs}]"
        )
    return OnnxInfo(inputs[0].name, tuple(item.name for item in outputs), shape[0])


def free_batch(model: onnx.ModelProto, info: OnnxInfo) -> None:
    """Make the first dimension dynamic, in the reshapes of the network too."""
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and value.name in (info.input, *info.outputs):
            dims[0].dim_param = "batch"
    del model.graph.value_info[:]
    if info.batch is None:
        return
    for node in model.graph.node:
        if node.op_type == "Reshape" and len(node.input) > 1:
            shape = _constant(model, node.input[1])
            if shape is None or shape.size < 2 or shape.reshape(-1)[0] != info.batch:
                continue
            # 0 keeps the size of the input.
            freed = np.concatenate([[0], shape.reshape(-1)[1:]]).astype(np.int64)
            name = f"{node.output[0]}_free_shape"
            model.graph.initializer.append(numpy_helper.from_array(freed, name))
            node.input[1] = name


def free_outputs(model: onnx.ModelProto, seen: Mapping[str, Sequence[tuple[int, ...]]]) -> None:
    """Make dynamic the declared sizes of outputs that their `seen` shapes contradict."""
    for value in model.graph.output:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            sizes = {shape[axis] for shape in seen[value.name] if axis < len(shape)}
            if dim.HasField("dim_value") and sizes != {dim.dim_value}:
                dim.dim_param = f"{value.name}_{axis}"
    del model.graph.value_info[:]


def _constant(model: onnx.ModelProto, name: str) -> Any:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output and node.output[0] == name:
            for attribute in node.attribute:
                if attribute.name == "value":
                    return numpy_helper.to_array(attribute.t)
    return None


@np.errstate(all="ignore")  # verification refuses values that are not finite
def fast_prelu(model: onnx.ModelProto) -> int:
    """Rewrite the PRelu of pictures as 1x1 depthwise convolutions; returns the number rewritten."""
    ranks = _ranks(model)
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in model.graph.node:
        slope = _constant(model, node.input[1]) if node.op_type == "PRelu" else None
        if slope is None or ranks.get(node.output[0]) != 4 or not _per_channel(slope):
            nodes.append(node)
            continue
        count += 1
        if slope.size == 1:
            alpha = float(slope.reshape(-1)[0])
            nodes.append(helper.make_node("LeakyRelu", node.input[:1], node.output, alpha=alpha))
            continue
        nodes.extend(_convolutions(model, node, slope.reshape(-1).astype(np.float32)))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return count


def _convolutions(model: onnx.ModelProto, node: onnx.NodeProto, slope: Any) -> list[onnx.NodeProto]:
    """PReLU as x + (1 - s) * relu(-x), as `emit.Builder.prelu` writes it."""
    x, out = node.input[0], node.output[0]

    def scaled(source: str, target: str, factor: Any) -> onnx.NodeProto:
        kernel = numpy_helper.from_array(factor.reshape(-1, 1, 1, 1), f"{target}_kernel")
        model.graph.initializer.append(kernel)
        return helper.make_node(
            "Conv", [source, kernel.name], [target], group=len(slope), kernel_shape=[1, 1]
        )

    return [
        scaled(x, f"{out}_turned", np.full_like(slope, -1)),
        helper.make_node("Relu", [f"{out}_turned"], [f"{out}_below"]),
        scaled(f"{out}_below", f"{out}_missing", 1 - slope),
        helper.make_node("Add", [f"{out}_missing", x], [out]),
    ]


def _per_channel(slope: Any) -> bool:
    """Whether a slope is a scalar or [C, 1, 1], with any number of ones before it."""
    shape = slope.shape
    return slope.size == 1 or (len(shape) >= 3 and shape[-3] == slope.size)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    try:
        inferred = shape_inference.infer_shapes(model)
    except (ValueError, RuntimeError, shape_inference.InferenceError):
        return {}
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.graph.value_info, *inferred.graph.output)
    }


def nchw_input(model: onnx.ModelProto, info: OnnxInfo, size: int) -> None:
    """Insert a transpose before a network that takes NHWC; `size` 0 is any size."""
    sides: list[int | str] = [size, size] if size else ["height", "width"]
    graph = model.graph
    inner = f"{info.input}_nhwc"
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == info.input:
                node.input[i] = inner
    first = helper.make_node("Transpose", [info.input], [inner], perm=[0, 2, 3, 1])
    nodes = [first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    for value in graph.input:
        if value.name == info.input:
            dim = value.type.tensor_type.shape.dim[0]
            batch: int | str = dim.dim_value or "batch"
            value.CopyFrom(
                helper.make_tensor_value_info(info.input, TensorProto.FLOAT, [batch, 3, *sides])
            )
