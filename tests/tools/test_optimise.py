"""The rewrites for small networks change nothing but the operators."""

from __future__ import annotations

from typing import Any

import pytest

from compreface_convert.emit import Form, emit, to_bytes
from compreface_convert.evaluate import specialise
from compreface_convert.graph import Graph, Node
from compreface_convert.simplify import Traced, simplify
from tests.convert.test_graph import (
    PICTURE,
    SLOPES,
    STRIDES,
    assert_same,
    graph,
    prelu_nodes,
    weights,
)
from tools.optimise import optimise


def optimised(source: Graph, *, large_pictures: bool) -> Traced:
    return optimise(simplify(specialise(source), PICTURE), large_pictures=large_pictures)


def as_onnx(traced: Traced) -> bytes:
    names = tuple(f"out{i}" for i in range(len(traced.graph.outputs)))
    return to_bytes(emit(traced, Form(PICTURE, names)))


@pytest.mark.parametrize("slope", SLOPES.values(), ids=SLOPES.keys())
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1)])
@pytest.mark.parametrize("padding", [b"SAME", b"VALID"])
def test_pooling_before_the_prelu_changes_nothing(
    slope: Any, size: int, stride: int, padding: bytes
) -> None:
    attrs = {
        "ksize": [1, size, size, 1],
        "strides": [1, stride, stride, 1],
        "padding": padding,
    }
    pool = Node("pool", "MaxPool", ("out",), attrs)
    nodes = [*prelu_nodes("operator"), pool, Node("next", "Conv2D", ("pool", "kn"), STRIDES)]
    constants = {"k": weights(3, 3, 3, 6), "slope": slope, "kn": weights(2, 2, 6, 5, seed=1)}
    source = graph(nodes, constants, "next")
    traced = optimised(source, large_pictures=True)
    quick = traced.graph.nodes
    assert "Prelu" not in {node.op for node in quick.values()}
    assert_same(source, as_onnx(traced))


@pytest.mark.parametrize(("channels", "kept"), [(10, 16), (28, 32), (16, 16), (5, 5)])
def test_blocks_of_channels_that_are_nearly_full_are_filled_with_zeros(
    channels: int, kept: int
) -> None:
    pool = {"ksize": [1, 2, 2, 1], "strides": [1, 1, 1, 1], "padding": b"SAME"}
    nodes = [
        Node("conv", "Conv2D", ("input", "k"), STRIDES),
        Node("bent", "Prelu", ("conv", "slope")),
        Node("pool", "MaxPool", ("bent",), pool),
        Node("next", "Conv2D", ("pool", "kn"), STRIDES),
    ]
    constants = {
        "k": weights(3, 3, 3, channels),
        "slope": weights(channels, seed=2),
        "kn": weights(3, 3, channels, 16, seed=1) / 8,
    }
    source = graph(nodes, constants, "next")
    traced = optimised(source, large_pictures=False)
    assert traced.graph.nodes["next"].attrs["kernel"].shape == (3, 3, kept, 16)
    assert_same(source, as_onnx(traced))


def test_a_block_that_another_operator_or_the_caller_reads_is_left_as_it_is() -> None:
    nodes = [
        Node("conv", "Conv2D", ("input", "k"), STRIDES),
        Node("next", "Conv2D", ("conv", "kn"), STRIDES),
    ]
    constants = {"k": weights(3, 3, 3, 10), "kn": weights(3, 3, 10, 16, seed=1)}
    for outputs in (("conv", "next"), ("conv",)):
        source = graph(nodes, constants, *outputs)
        traced = optimised(source, large_pictures=False)
        assert traced.graph.nodes["conv"].attrs["kernel"].shape[-1] == 10


def test_two_heads_become_one_and_give_the_same() -> None:
    nodes = [
        Node("box", "Conv2D", ("input", "kb"), STRIDES),
        Node("pair", "Conv2D", ("input", "kp"), STRIDES),
        Node("score", "Softmax", ("pair",)),
    ]
    source = graph(nodes, {"kb": weights(1, 1, 3, 4), "kp": weights(1, 1, 3, 2)}, "box", "score")
    traced = optimised(source, large_pictures=True)
    quick = traced.graph.nodes
    assert [node.op for node in quick.values()].count("Conv2D") == 1
    assert_same(source, as_onnx(traced))
