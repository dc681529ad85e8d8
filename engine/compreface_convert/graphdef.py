"""Reads a TensorFlow frozen graph (GraphDef protobuf) without TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from compreface_convert import wire
from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import FIXED_FEEDS
from compreface_convert.graph import MAX_NODES, Array, Graph, Node, Shape

# DataType numbers of TensorFlow's types.proto that a weight or a parameter can have.
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "<u1", 5: "<i2", 6: "<i1", 9: "<i8", 10: "?", 19: "<f2"}
_FLOAT, _STRING = 1, 7
MAX_ELEMENTS = 1 << 27
_MAX_REPEATED = 1 << 20
"""Values a constant may have beyond those that stand in the file."""
_MAX_CONSTANT_BYTES = 64 << 20
"""What all constants may take beyond the size of the file."""


def read_graphdef(
    data: bytes | memoryview, *, inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()
) -> Graph:
    """The graph as it stands in the file.

    Its input is the first of `inputs` that it has, else its only placeholder of floats; its outputs
    are `outputs` where it has all of them, else what depends on the input and nobody else uses.
    Raises ConvertError for a broken file, and where there is no such input or output.
    """
    nodes: dict[str, Node] = {}
    constants: dict[str, Array] = {}
    size = 0
    for number, value in wire.fields(memoryview(data)):
        if number != 1:
            continue
        node = read_node(wire.blob(value))
        if node.name in nodes or not node.name:
            raise ConvertError(f"the graph has two nodes named '{node.name}'")
        if len(nodes) >= MAX_NODES:
            raise ConvertError(f"the graph has more than {MAX_NODES} nodes")
        nodes[node.name] = node
        if node.op == "Const" and isinstance(node.attrs.get("value"), np.ndarray):
            constants[node.name] = node.attrs["value"]
            size += node.attrs["value"].nbytes
            if size > len(data) + _MAX_CONSTANT_BYTES:
                raise ConvertError("the constants of the graph claim more than the file holds")
    name = next((name for name in inputs if name in nodes), "") or _only_input(nodes)
    given = {name: nodes[name].attrs.get("shape") or ()}
    if not outputs or not all(output in nodes for output in outputs):
        outputs = _ends(nodes, name)
    return Graph(nodes, constants, given, outputs)


def _only_input(nodes: Mapping[str, Node]) -> str:
    found = [
        node.name
        for node in nodes.values()
        if node.op == "Placeholder"
        and node.attrs.get("dtype") == _FLOAT
        and node.name not in FIXED_FEEDS
    ]
    if len(found) != 1:
        names = ", ".join(found)[:300] or "none"
        raise ConvertError(
            f"the graph has {len(found)} inputs of floats ({names}); one is supported"
        )
    return found[0]


def _ends(nodes: Mapping[str, Node], start: str) -> tuple[str, ...]:
    """What depends on `start` and is used by no other node, in the file's order."""
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


def read_node(data: memoryview) -> Node:
    """A NodeDef; an attribute that names a function becomes a str, other texts stay bytes."""
    name, op = "", ""
    inputs: list[str] = []
    control: list[str] = []
    attrs: dict[str, Any] = {}
    for number, value in wire.fields(data):
        if number == 1:
            name = wire.text(value)
        elif number == 2:
            op = wire.text(value)
        elif number == 3:
            source = wire.text(value)
            if source.startswith("^"):
                control.append(source[1:])
            else:
                inputs.append(source.removesuffix(":0"))
        elif number == 5:
            key, attr = _entry(wire.blob(value))
            attrs[key] = attr
    return Node(name, op, tuple(inputs), attrs, tuple(control))


def _entry(data: memoryview) -> tuple[str, Any]:
    key, attr = "", None
    for number, value in wire.fields(data):
        if number == 1:
            key = wire.text(value)
        elif number == 2:
            attr = _attr(wire.blob(value))
    return key, attr


def _attr(data: memoryview) -> Any:
    for number, value in wire.fields(data):
        if number == 1:
            return _list(wire.blob(value))
        if number == 2:
            return bytes(wire.blob(value))
        if number in (3, 6):
            return wire.signed(value)
        if number == 4:
            return wire.float32(value)
        if number == 5:
            return bool(wire.signed(value))
        if number == 7:
            return read_shape(wire.blob(value))
        if number == 8:
            return _tensor(wire.blob(value))
        if number == 10:
            return "".join(wire.text(v) for n, v in wire.fields(wire.blob(value)) if n == 1)
    return None


def _list(data: memoryview) -> list[Any]:
    items: list[Any] = []
    for number, value in wire.fields(data):
        if number == 2:
            items.append(bytes(wire.blob(value)))
        elif number in (3, 5, 6):
            items.extend(wire.varints(value))
        elif number == 4:
            items.extend(np.frombuffer(_whole(wire.blob(value), 4), "<f4").tolist())
    return items


def read_shape(data: memoryview) -> Shape:
    """A TensorShapeProto; None stands for a size that is not known."""
    dims: list[int | None] = []
    for number, value in wire.fields(data):
        if number == 2:
            size = 0
            for inner, raw in wire.fields(wire.blob(value)):
                if inner == 1:
                    size = wire.signed(raw)
            dims.append(size if size >= 0 else None)
            if len(dims) > 8:
                raise ConvertError("a tensor has more than 8 dimensions")
    return tuple(dims)


def _whole(data: memoryview, size: int) -> memoryview:
    if len(data) % size:
        raise ConvertError("broken protobuf: a list of numbers is cut short")
    return data


@np.errstate(all="ignore")  # values that are not finite are the proof's affair
def _tensor(data: memoryview) -> Array | list[bytes] | None:
    """A TensorProto as an array; strings, which no network computes with, as a flat list."""
    dtype_number, shape = 0, ()  # type: int, Shape
    strings: list[bytes] = []
    content: memoryview | None = None
    values: list[Array] = []
    for number, value in wire.fields(data):
        if number == 1:
            dtype_number = wire.signed(value)
        elif number == 2:
            shape = read_shape(wire.blob(value))
        elif number == 4:
            content = wire.blob(value)
        elif number == 5:
            values.append(np.frombuffer(_whole(wire.blob(value), 4), "<f4"))
        elif number == 6:
            values.append(np.frombuffer(_whole(wire.blob(value), 8), "<f8"))
        elif number == 8:
            strings.append(bytes(wire.blob(value)))
        elif number == 13:
            values.append(np.array(wire.varints(value), np.int64).astype(np.uint16).view("<f2"))
        elif number in (7, 10, 11):
            values.append(np.array(wire.varints(value), np.int64))
    if dtype_number not in DTYPES:
        return strings if dtype_number == _STRING else None
    dtype = np.dtype(DTYPES[dtype_number])
    known = [size for size in shape if size is not None]
    if len(known) != len(shape):
        raise ConvertError("a constant has a dimension of unknown size")
    count = math.prod(known)
    if count > MAX_ELEMENTS:
        raise ConvertError(f"a constant claims {count} values")
    if content is not None:
        if len(content) != count * dtype.itemsize:
            raise ConvertError(f"a constant of {count} values has {len(content)} bytes")
        return np.frombuffer(content, dtype).reshape(known)
    flat = np.concatenate(values) if values else np.zeros(1)
    if len(flat) > max(count, 1):
        raise ConvertError("a constant has more values than its shape takes")
    if count - len(flat) > _MAX_REPEATED:
        raise ConvertError(f"a constant of {count} values has {len(flat)} in the file")
    # Missing values repeat the last one.
    if len(flat) == 1:
        return np.broadcast_to(flat.astype(dtype).reshape(()), tuple(known))
    return np.concatenate([flat, np.full(count - len(flat), flat[-1])]).astype(dtype).reshape(known)
