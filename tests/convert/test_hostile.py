"""Broken and hostile model files: always a ConvertError, within limits of time and memory."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compreface_convert.emit import Form, emit
from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import Evaluation, run, specialise
from compreface_convert.graph import Graph, Node
from compreface_convert.graphdef import read_graphdef
from compreface_convert.onnx_file import parse
from compreface_convert.simplify import simplify
from compreface_convert.tflite import read_tflite

RECORDINGS = Path(__file__).parent / "recordings"
PB = (RECORDINGS / "sandberg_small.pb").read_bytes()
TFLITE = (RECORDINGS / "small.tflite").read_bytes()


def convert_pb(data: bytes) -> None:
    graph = read_graphdef(data, inputs=("input",), outputs=("embeddings",))
    finish(graph, 35)


def convert_tflite(data: bytes) -> None:
    finish(read_tflite(data), 24)


def finish(graph: Graph, side: int) -> None:
    traced = simplify(specialise(graph), (side, side, 3))
    emit(traced, Form((side, side, 3), tuple(f"o{i}" for i in range(len(graph.outputs)))))


FORMATS: dict[str, tuple[Callable[[bytes], None], bytes]] = {
    "graph": (convert_pb, PB),
    "tflite": (convert_tflite, TFLITE),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_whole_files_convert(name: str) -> None:
    convert, data = FORMATS[name]
    convert(data)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_anywhere_is_refused(name: str) -> None:
    convert, data = FORMATS[name]
    offsets = {*range(200), *range(200, len(data), len(data) // 150), len(data) - 1}
    if convert is convert_tflite:
        offsets.remove(len(data) - 1)  # ends in padding
    for offset in sorted(offsets):
        with pytest.raises(ConvertError):
            convert(data[:offset])


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6))
def test_flipped_bytes_are_converted_or_refused(name: str, flips: list[tuple[int, int]]) -> None:
    convert, data = FORMATS[name]
    broken = bytearray(data)
    for place, mask in flips:
        broken[place % len(data)] ^= mask
    with suppress(ConvertError):
        convert(bytes(broken))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**6), value=st.sampled_from([0, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20]))
def test_lying_lengths_and_offsets_are_converted_or_refused(
    name: str, place: int, value: int
) -> None:
    convert, data = FORMATS[name]
    broken = bytearray(data)
    at = place % (len(data) - 4) // 4 * 4
    broken[at : at + 4] = struct.pack("<I", value)
    with suppress(ConvertError):
        convert(bytes(broken))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ConvertError):
        read_graphdef(data, inputs=("input",), outputs=("embeddings",))
    with pytest.raises(ConvertError):
        read_tflite(b"\x1c\0\0\0TFL3" + data)
    with pytest.raises(ConvertError):
        parse(data)


def test_an_onnx_file_cut_anywhere_is_refused() -> None:
    data = (
        (Path(RECORDINGS).parents[2] / "engine/compreface_engine/embedded_models")
        .joinpath("mtcnn_pnet.onnx")
        .read_bytes()
    )
    for offset in (0, 1, 10, 500, len(data) // 2, len(data) - 1):
        with pytest.raises(ConvertError):
            parse(data[:offset])


# --- protobuf by hand ---------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes | int) -> bytes:
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def node(name: str, op: str, *inputs: str, **attrs: bytes) -> bytes:
    body = field(1, name.encode()) + field(2, op.encode())
    body += b"".join(field(3, name.encode()) for name in inputs)
    for key, value in attrs.items():
        body += field(5, field(1, key.encode()) + field(2, value))
    return field(1, body)


def tensor(dims: list[int], values: bytes = b"", dtype: int = 1) -> bytes:
    shape = b"".join(field(2, field(1, dim)) for dim in dims)
    return field(8, field(1, dtype) + field(2, shape) + (field(5, values) if values else b""))


def read(*nodes: bytes) -> Graph:
    return read_graphdef(
        b"".join([node("input", "Placeholder"), *nodes]), inputs=("input",), outputs=("out",)
    )


def test_a_constant_of_many_times_its_bytes_is_refused() -> None:
    first = struct.pack("<f", 1.0)
    for dims in ([1 << 26], [1 << 30, 1 << 30], [(1 << 63) - 1, 2], [1 << 12] * 4):
        with pytest.raises(ConvertError, match=r"constant .* values"):
            read(node("out", "Const", value=tensor(dims, first)))


def test_many_constants_that_each_claim_a_little_are_refused_together() -> None:
    first = struct.pack("<f", 1.0)
    nodes = [node(f"c{i}", "Const", value=tensor([1 << 20], first)) for i in range(64)]
    with pytest.raises(ConvertError, match="larger than the file"):
        read(*nodes, node("out", "Relu", "input"))


def test_a_constant_with_more_bytes_than_its_shape_is_refused() -> None:
    with pytest.raises(ConvertError, match="more values than its shape"):
        read(node("out", "Const", value=tensor([2], struct.pack("<3f", 1, 2, 3))))


def test_a_dimension_below_zero_is_refused() -> None:
    with pytest.raises(ConvertError, match="unknown size"):
        read(node("out", "Const", value=tensor([(1 << 64) - 5])))


def test_a_repeated_value_fills_its_shape() -> None:
    graph = read(
        node("c", "Const", value=tensor([2, 3], struct.pack("<2f", 1.0, 2.0))),
        node("out", "Relu", "input"),
    )
    assert graph.constants["c"].tolist() == [[1, 2, 2], [2, 2, 2]]


def test_two_nodes_of_one_name_are_refused() -> None:
    with pytest.raises(ConvertError, match="two nodes"):
        read(node("out", "Relu", "input"), node("out", "Abs", "input"))


def placeholder(name: str, dtype: int = 1) -> bytes:
    return node(name, "Placeholder", dtype=field(6, dtype))


def test_a_graph_of_any_names_is_read_by_its_only_input_and_what_nobody_uses() -> None:
    graph = read_graphdef(
        placeholder("x")
        + placeholder("phase_train", dtype=10)
        + placeholder("keep_probability")
        + node("size", "Const", value=tensor([2], struct.pack("<2f", 1, 2)))
        + node("middle", "Add", "x", "size")
        + node("end", "Relu", "middle:0")
        + node("side", "Abs", "middle")
        + node("elsewhere", "Neg", "size"),
        inputs=("input",),
        outputs=("embeddings",),
    )
    assert list(graph.inputs) == ["x"]
    assert graph.outputs == ("end", "side")


def test_a_graph_without_an_output_or_with_other_inputs_says_which() -> None:
    with pytest.raises(ConvertError, match="computed from its input 'input'"):
        read(node("other", "Relu", "nobody"))
    for inputs, message in (((), r"0 \(none\)"), (("a", "b"), r"2 .*\(a, b\)")):
        nodes = [*map(placeholder, inputs), node("out", "Relu", "a")]
        with pytest.raises(ConvertError, match=message):
            read_graphdef(b"".join(nodes), inputs=("images",), outputs=("out",))
    with pytest.raises(ConvertError, match="a cycle"):
        specialise(read(node("out", "Add", "input", "back"), node("back", "Neg", "out")))


@pytest.mark.parametrize("depth", [20_000])
def test_a_very_deep_graph_needs_no_recursion(depth: int) -> None:
    nodes = {"n0": Node("n0", "Neg", ("input",))}
    for i in range(1, depth):
        nodes[f"n{i}"] = Node(f"n{i}", "Neg", (f"n{i - 1}",))
    graph = Graph(nodes, {}, {"input": (None, 1, 1, 3)}, (f"n{depth - 1}",))
    (result,) = run(graph, {"input": np.ones((1, 1, 1, 3), np.float32)})
    assert result.reshape(-1).tolist() == [1.0, 1.0, 1.0]
    assert len(specialise(graph).nodes) == depth


def bomb(op: str, constants: dict[str, Any], **attrs: Any) -> Graph:
    nodes = {"out": Node("out", op, ("input", *constants), attrs)}
    consts = {name: Node(name, "Const", ()) for name in constants}
    return Graph({**nodes, **consts}, constants, {"input": (None, 35, 35, 3)}, ("out",))


@pytest.mark.parametrize(
    "graph",
    [
        bomb("Pad", {"p": np.array([[0, 0], [0, 1 << 20], [0, 1 << 20], [0, 0]])}),
        bomb("Pad", {"p": np.array([[0, 0], [0, 1 << 60], [0, 0], [0, 0]])}),
        bomb("Add", {"k": np.broadcast_to(np.float32(1), (1 << 13, 1 << 13, 1, 1, 1, 1))}),
        bomb("MaxPool", {}, ksize=[1, 4096, 4096, 1], strides=[1, 1, 1, 1], padding=b"SAME"),
        bomb("MaxPool", {}, ksize=[1, 2, 2, 1], strides=[1, 0, 1, 1], padding=b"SAME"),
        bomb("MaxPool", {}, ksize=[1, 2, 2, 1], strides=[1, -1, 1, 1], padding=b"SAME"),
        bomb("MaxPool", {}, ksize=b"2222", strides=[1, 1, 1, 1], padding=b"SAME"),
        bomb("MaxPool", {}, ksize=["a", "b", "c", "d"], strides=[1, 1, 1, 1], padding=b"SAME"),
        bomb(
            "Conv2D",
            {"k": np.broadcast_to(np.float32(0), (3, 3, 3, 1 << 28))},
            strides=[1, 1, 1, 1],
            padding=b"SAME",
        ),
        bomb(
            "Conv2D",
            {"k": np.zeros((3, 3, 3, 4), np.float32)},
            strides=[1, 1, 1, 1],
            dilations=[1, 4000, 4000, 1],
            padding=b"SAME",
        ),
        bomb("Reshape", {"s": np.array([1 << 40, 3])}),
        bomb("ExpandDims", {"s": np.array([1, 2])}),
    ],
    ids=lambda graph: graph.nodes["out"].op,
)
def test_operators_that_would_flood_the_memory_are_refused(graph: Graph) -> None:
    with pytest.raises(ConvertError, match="node 'out'"):
        finish(graph, 35)


def test_many_large_results_are_refused_together() -> None:
    nodes = {"n0": Node("n0", "Neg", ("input",))}
    for i in range(1, 60):
        nodes[f"n{i}"] = Node(f"n{i}", "Neg", (f"n{i - 1}",))
    graph = Graph(nodes, {}, {"input": (None, 35, 35, 3)}, ("n59",))
    batch = np.ones((1, 35, 35, 3), np.float32)
    run(graph, {"input": batch})
    with pytest.raises(ConvertError, match="too large to verify"):
        Evaluation(graph, {"input": batch}, max_bytes=20 * batch.nbytes).array("n59")
