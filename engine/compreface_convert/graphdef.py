"""Reads a TensorFlow frozen graph (GraphDef protobuf) without TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import FIXED_FEEDS
from compreface_convert.graph import MAX_NODES, Array, Graph, Node, Shape
from compreface_convert.tensorflow_proto import parse

# NumPy types by the DataType numbers of TensorFlow's types.proto, for weights and parameters.
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "<u1", 5: "<i2", 6: "<i1", 9: "<i8", 10: "?", 19: "<f2"}
_FLOAT, _STRING = 1, 7
MAX_ELEMENTS = 1 << 27
_MAX_REPEATED = 1 << 20
"""Values that a constant may have beyond those in the file, by repeating the last one."""
_MAX_CONSTANT_BYTES = 64 << 20
"""Bytes that all constants may take beyond the size of the file."""
_MAX_DIMENSIONS = 8


def read_graphdef(
    data: bytes | memoryview, *, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()
) -> Graph:
    """The graph of a file, unchanged.

    Its input is the first of `inputs` that it has, else its only float placeholder. Its outputs are
    `outputs` if it has all of them, else the nodes that depend on the input and feed no other node.
    Raises ConvertError for a broken file, and for one without such an input or output.
    """
    nodes = read_nodes(parse("GraphDef", data).node, len(data))
    constants = {
        node.name: node.attrs["value"]
        for node in nodes.values()
        if node.op == "Const" and isinstance(node.attrs.get("value"), np.ndarray)
    }
    name = next((name for name in inputs if name in nodes), "") or _only_input(nodes)
    given = {name: nodes[name].attrs.get("shape") or ()}
    if not outputs or not all(output in nodes for output in outputs):
        outputs = _ends(nodes, name)
    return Graph(nodes, constants, given, outputs)


def _only_input(nodes: Mapping[str, Node]) -> str:
    names = [
        node.name
        for node in nodes.values()
        if node.op == "Placeholder"
        and node.attrs.get("dtype") == _FLOAT
        and node.name not in FIXED_FEEDS
    ]
    if len(names) != 1:
        listed = ", ".join(names)[:300] or "none"
        raise ConvertError(
            f"the graph must have a single float input; it has {len(names)} ({listed})"
        )
    return names[0]


def _ends(nodes: Mapping[str, Node], start: str) -> tuple[str, ...]:
    """The nodes that depend on `start` and feed no other node, in the order of the file."""
    users: dict[str, list[str]] = {}
    for node in nodes.values():
        for source in node.inputs:
            users.setdefault(source.partition(":")[0], []).append(node.name)
    reached, stack = {start}, [start]
    while stack:
        for user in users.get(stack.pop(), ()):
            if user not in reached:
                reached.add(user)
                stack.append(user)
    ends = tuple(name for name in nodes if name in reached and name not in users)
    if not ends or ends == (start,):
        raise ConvertError(f"nothing in the graph is computed from its input '{start}'")
    return ends


def read_nodes(messages: Iterable[Any], size: int) -> dict[str, Node]:
    """The nodes of a GraphDef in a file of `size` bytes, by name. Raises ConvertError."""
    nodes: dict[str, Node] = {}
    left = size + _MAX_CONSTANT_BYTES
    for message in messages:
        node = read_node(message)
        if node.name in nodes or not node.name:
            raise ConvertError(f"the graph has two nodes named '{node.name}'")
        if len(nodes) >= MAX_NODES:
            raise ConvertError(f"the graph has more than {MAX_NODES} nodes")
        nodes[node.name] = node
        value = node.attrs.get("value")
        left -= value.nbytes if isinstance(value, np.ndarray) else 0
        if left < 0:
            raise ConvertError("the constants of the graph are larger than the file")
    return nodes


def read_node(message: Any) -> Node:
    """The node of a NodeDef. A function's name becomes a str, other texts stay bytes."""
    inputs = tuple(name.removesuffix(":0") for name in message.input if not name.startswith("^"))
    control = tuple(name[1:] for name in message.input if name.startswith("^"))
    attrs = {attr.key: _value(attr.value) for attr in message.attr}
    return Node(message.name, message.op, inputs, attrs, control)


def _value(attr: Any) -> Any:
    """The value of an AttrValue; None for a kind that is not read."""
    kind = attr.WhichOneof("value")
    if kind is None:
        return None
    value = getattr(attr, kind)
    if kind == "list":
        return [*value.s, *value.i, *value.f, *map(int, value.b), *value.type]
    if kind == "shape":
        return read_shape(value)
    if kind == "tensor":
        return _tensor(value)
    return value.name if kind == "func" else value


def read_shape(message: Any) -> Shape:
    """The shape of a TensorShapeProto; None is an unknown size."""
    if len(message.dim) > _MAX_DIMENSIONS:
        raise ConvertError(f"a tensor has more than {_MAX_DIMENSIONS} dimensions")
    return tuple(dim.size if dim.size >= 0 else None for dim in message.dim)


@np.errstate(all="ignore")  # verification refuses values that are not finite
def _tensor(message: Any) -> Array | list[bytes] | None:
    """The array of a TensorProto, or its strings as a flat list; None for other types."""
    if message.dtype not in DTYPES:
        return list(message.string_val) if message.dtype == _STRING else None
    dtype, shape = np.dtype(DTYPES[message.dtype]), read_shape(message.tensor_shape)
    known = [size for size in shape if size is not None]
    if len(known) != len(shape):
        raise ConvertError("a constant has a dimension of unknown size")
    count = math.prod(known)
    if count > MAX_ELEMENTS:
        raise ConvertError(f"a constant has {count} values; up to {MAX_ELEMENTS} are supported")
    if content := message.tensor_content:
        if len(content) != count * dtype.itemsize:
            raise ConvertError(f"a constant of {count} values has {len(content)} bytes")
        return np.frombuffer(content, dtype).reshape(known)
    flat = _values(message)
    if len(flat) > max(count, 1):
        raise ConvertError("a constant has more values than its shape takes")
    if count - len(flat) > _MAX_REPEATED:
        raise ConvertError(f"a constant of {count} values has {len(flat)} in the file")
    # Missing values repeat the last one.
    if len(flat) == 1:
        return np.broadcast_to(flat.astype(dtype).reshape(()), tuple(known))
    return np.concatenate([flat, np.full(count - len(flat), flat[-1])]).astype(dtype).reshape(known)


def _values(message: Any) -> Array:
    """The values that a TensorProto lists one by one; a single 0 if there are none."""
    if message.half_val:
        return np.array(message.half_val, np.int64).astype(np.uint16).view("<f2")
    for values, dtype in (
        (message.float_val, np.float32),
        (message.double_val, np.float64),
        (message.int_val, np.int64),
        (message.int64_val, np.int64),
        (message.bool_val, np.int64),
    ):
        if values:
            return np.array(values, dtype)
    return np.zeros(1)
