"""Graphs: constant folding, choice of branches, and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from compreface_convert.emit import Form, emit, to_bytes
from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import run, specialise
from compreface_convert.graph import Graph, Node
from compreface_convert.proof import prove, run_onnx
from compreface_convert.simplify import simplify

STRIDES = {"strides": [1, 1, 1, 1], "padding": b"VALID"}
PICTURE = (9, 11, 3)


def weights(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def graph(nodes: list[Node], constants: Mapping[str, Any], *outputs: str) -> Graph:
    names = {node.name: node for node in nodes}
    consts = {name: Node(name, "Const", (), {}) for name in constants}
    return Graph({**names, **consts}, dict(constants), {"input": (None, *PICTURE)}, outputs)


def convert(source: Graph, **form: Any) -> bytes:
    traced = simplify(specialise(source), PICTURE)
    names = tuple(f"out{i}" for i in range(len(source.outputs)))
    return to_bytes(emit(traced, Form(PICTURE, names, **form)))


def assert_same(source: Graph, model: bytes) -> None:
    batch = weights(2, *PICTURE, seed=9)
    outputs = [f"out{i}" for i in range(len(source.outputs))]
    result = run_onnx(model, np.ascontiguousarray(batch.transpose(0, 3, 1, 2)), outputs)
    for first, other in zip(run(source, {"input": batch}), result, strict=True):
        natural = other.transpose(0, 2, 3, 1) if other.ndim == 4 else other
        assert first.shape == natural.shape
        assert np.abs(first - natural).max() < 1e-5


def switched(predicate: str, op: str = "Placeholder") -> Graph:
    """relu(x) where the predicate is true, -x where it is false."""
    nodes = [
        Node(predicate, op, ()),
        Node("switch", "Switch", ("input", predicate)),
        Node("yes", "Relu", ("switch:1",)),
        Node("no", "Neg", ("switch",)),
        Node("merge", "Merge", ("no", "yes")),
    ]
    return graph(nodes, {}, "merge")


def test_phase_train_is_false() -> None:
    source = switched("phase_train")
    batch = weights(1, *PICTURE)
    assert np.array_equal(run(source, {"input": batch})[0], -batch)
    assert_same(source, convert(source))


def test_a_dead_branch_may_hold_operators_nobody_knows() -> None:
    source = switched("phase_train")
    source.nodes["yes"] = Node("yes", "RandomMagic", ("switch:1",))
    assert_same(source, convert(source))


def test_a_constant_of_a_dead_branch_is_not_taken() -> None:
    source = switched("phase_train")
    source.constants["one"] = np.array(1, np.float32)
    source.nodes["pivot"] = Node("pivot", "Identity", ("switch:1",))
    source.nodes["one"] = Node("one", "Const", (), {}, control=("pivot",))
    source.nodes["merge"] = Node("merge", "Merge", ("no", "one"))
    assert_same(source, convert(source))


def test_a_switch_on_something_unknown_is_named() -> None:
    with pytest.raises(ConvertError, match=r"Placeholder .*'mystery'"):
        specialise(switched("mystery"))


def test_a_cycle_is_refused() -> None:
    nodes = [Node("a", "Add", ("input", "b")), Node("b", "Relu", ("a",))]
    with pytest.raises(ConvertError, match="cycle"):
        specialise(graph(nodes, {}, "a"))


def test_a_node_that_feeds_itself_is_refused() -> None:
    with pytest.raises(ConvertError, match="cycle"):
        specialise(graph([Node("a", "Add", ("input", "a"))], {}, "a"))


def test_an_identity_of_nothing_is_refused() -> None:
    with pytest.raises(ConvertError, match=r"Identity \(node 'a'\) has 0 inputs"):
        specialise(graph([Node("a", "Identity", ())], {}, "a"))


def test_a_missing_node_is_named() -> None:
    with pytest.raises(ConvertError, match="'nowhere'"):
        specialise(graph([Node("a", "Add", ("input", "nowhere"))], {}, "a"))


def test_an_unsupported_operator_is_named_with_its_node() -> None:
    source = graph([Node("odd", "Conv3D", ("input",))], {}, "odd")
    with pytest.raises(ConvertError, match=r"operator Conv3D \(node 'odd'\) is not supported"):
        convert(source)


def test_an_output_that_does_not_depend_on_the_picture_is_refused() -> None:
    with pytest.raises(ConvertError, match="does not depend"):
        specialise(graph([], {"c": weights(3)}, "c"))


def test_batch_norm_and_scales_fold_into_the_convolution() -> None:
    names = ("gamma", "beta", "mean")
    constants = {name: weights(5, seed=i) for i, name in enumerate(names)}
    constants |= {"k": weights(3, 3, 3, 5), "var": abs(weights(5)) + 1, "half": np.float32(0.5)}
    norm = ("conv", "gamma", "beta", "mean", "var")
    nodes = [
        Node("conv", "Conv2D", ("input", "k"), STRIDES),
        Node("norm", "FusedBatchNormV3", norm, {"epsilon": 0.001, "is_training": False}),
        Node("scaled", "Mul", ("norm", "half")),
        Node("turned", "Sub", ("beta", "scaled")),
    ]
    source = graph(nodes, constants, "turned")
    assert len(simplify(specialise(source), PICTURE).graph.nodes) == 1
    assert_same(source, convert(source))


def test_scales_and_offsets_without_a_convolution_become_one_of_each() -> None:
    constants = {name: weights(3, seed=i) for i, name in enumerate("abcd")}
    nodes = [
        Node("one", "Mul", ("input", "a")),
        Node("two", "Add", ("one", "b")),
        Node("three", "RealDiv", ("two", "c")),
        Node("four", "Sub", ("d", "three")),
    ]
    source = graph(nodes, constants, "four")
    assert len(simplify(specialise(source), PICTURE).graph.nodes) == 1
    assert_same(source, convert(source))


def test_a_batch_norm_in_training_mode_is_refused() -> None:
    constants = {name: weights(3) for name in "gbmv"}
    nodes = [Node("n", "FusedBatchNorm", ("input", *"gbmv"), {"is_training": True})]
    with pytest.raises(ConvertError, match="training mode"):
        convert(graph(nodes, constants, "n"))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", [b"SAME", b"VALID"])
@pytest.mark.parametrize("transposed", [False, True])
def test_windows_pad_as_tensorflow_does(
    stride: int, size: int, padding: bytes, transposed: bool
) -> None:
    attrs = {"strides": [1, stride, 1, 1], "padding": padding, "ksize": [1, size, 2, 1]}
    nodes = [
        Node("conv", "Conv2D", ("input", "k"), attrs),
        Node("deep", "DepthwiseConv2dNative", ("conv", "d"), {**attrs, "strides": [1, 1, 1, 1]}),
        Node("top", "MaxPool", ("deep",), {**attrs, "strides": [1, 1, 2, 1], "padding": b"SAME"}),
        Node("mean", "AvgPool", ("top",), {**attrs, "strides": [1, 1, 1, 1], "padding": b"SAME"}),
    ]
    constants = {"k": weights(size, 2, 3, 4), "d": weights(1, 2, 4, 2)}
    source = graph(nodes, constants, "mean")
    model = convert(source, transposed=transposed)
    if not transposed:
        assert_same(source, model)
        return
    batch = weights(1, *PICTURE)
    (expected,) = run(source, {"input": batch})
    (result,) = run_onnx(model, np.ascontiguousarray(batch.transpose(0, 3, 2, 1)), ["out0"])
    assert np.abs(result.transpose(0, 3, 2, 1) - expected).max() < 1e-5


def test_a_dense_layer_reads_a_flattened_picture_in_its_own_order() -> None:
    size = int(np.prod(PICTURE))
    nodes = [
        Node("flat", "Reshape", ("input", "shape")),
        Node("dense", "MatMul", ("flat", "k")),
        Node("biased", "BiasAdd", ("dense", "b")),
    ]
    constants = {"shape": np.array([-1, size]), "k": weights(size, 5) / 20, "b": weights(5)}
    source = graph(nodes, constants, "biased")
    assert_same(source, convert(source))


def test_a_flattened_picture_that_leaves_the_network_keeps_its_order() -> None:
    constants = {"shape": np.array([-1, int(np.prod(PICTURE))])}
    source = graph([Node("flat", "Reshape", ("input", "shape"))], constants, "flat")
    assert_same(source, convert(source))


def test_a_reshape_that_mixes_pictures_is_refused() -> None:
    source = graph([Node("all", "Reshape", ("input", "shape"))], {"shape": np.array([-1])}, "all")
    with pytest.raises(ConvertError, match="mixes the batch"):
        convert(source)


def test_arithmetic_that_stays_keeps_its_meaning() -> None:
    nodes = [
        Node("square", "Square", ("input",)),
        Node("sum", "Sum", ("square", "last"), {"keep_dims": True}),
        Node("floor", "Maximum", ("sum", "tiny")),
        Node("root", "Rsqrt", ("floor",)),
        Node("unit", "Mul", ("input", "root")),
        Node("low", "Minimum", ("unit", "tiny")),
        Node("clip", "Relu6", ("unit",)),
        Node("joined", "ConcatV2", ("low", "clip", "last")),
        Node("padded", "Pad", ("joined", "pads")),
        Node("mean", "Mean", ("padded", "places"), {"keep_dims": False}),
        Node("soft", "Softmax", ("mean",)),
    ]
    constants = {
        "last": np.array(3),
        "tiny": np.float32(1e-3),
        "pads": np.array([[0, 0], [1, 2], [0, 3], [0, 0]]),
        "places": np.array([1, 2]),
    }
    source = graph(nodes, constants, "soft", "unit")
    assert_same(source, convert(source))


SLOPES = {
    "mixed": weights(6, seed=3) * 2,
    "above one": weights(6, seed=4) + 2,
    "zero": np.zeros(6, np.float32),
    "one": np.ones(6, np.float32),
}


def prelu_nodes(form: str) -> list[Node]:
    """A convolution and its PReLU, in the forms that training scripts write."""
    conv = Node("conv", "Conv2D", ("input", "k"), STRIDES)
    if form == "operator":
        return [conv, Node("out", "Prelu", ("conv", "slope"))]
    if form == "negated":
        return [
            conv,
            Node("up", "Relu", ("conv",)),
            Node("neg", "Neg", ("conv",)),
            Node("down", "Relu", ("neg",)),
            Node("back", "Neg", ("down",)),
            Node("scaled", "Mul", ("slope", "back")),
            Node("out", "Add", ("up", "scaled")),
        ]
    return [
        conv,
        Node("up", "Relu", ("conv",)),
        Node("size", "Abs", ("conv",)),
        Node("low", "Sub", ("conv", "size")),
        Node("scaled", "Mul", ("slope", "low")),
        Node("halved", "Mul", ("scaled", "half")),
        Node("out", "Add", ("up", "halved")),
    ]


@pytest.mark.parametrize("slope", SLOPES.values(), ids=SLOPES.keys())
@pytest.mark.parametrize("form", ["operator", "negated", "absolute"])
def test_every_form_of_prelu_becomes_convolutions(form: str, slope: Any) -> None:
    constants = {"k": weights(3, 3, 3, 6), "slope": slope, "half": np.float32(0.5)}
    source = graph(prelu_nodes(form), constants, "out")
    made = simplify(specialise(source), PICTURE).graph.nodes
    assert [node.op for node in made.values()] == ["Conv2D", "Prelu"]
    assert_same(source, convert(source))
    assert_same(source, convert(source, prelu="operator"))


def test_half_precision_weights_stay_near() -> None:
    nodes = [Node("conv", "Conv2D", ("input", "k"), STRIDES)]
    source = graph(nodes, {"k": weights(3, 3, 3, 64)}, "conv")
    whole, half = convert(source), convert(source, half_weights=True)
    assert len(half) < 0.6 * len(whole)
    batch = weights(1, *PICTURE).transpose(0, 3, 1, 2).copy()
    first, other = (run_onnx(model, batch, ["out0"])[0] for model in (whole, half))
    assert 0 < np.abs(first - other).max() < 5e-3


def test_a_conversion_gives_the_same_bytes_every_time() -> None:
    nodes = prelu_nodes("negated")
    source = graph(nodes, {"k": weights(3, 3, 3, 6), "slope": weights(6)}, "out")
    assert convert(source) == convert(source)


def test_the_proof_refuses_another_function() -> None:
    batch = weights(2, 4)
    with pytest.raises(ConvertError, match=r"gives other values: largest difference 0\.0"):
        prove(lambda x: [x], lambda x: [x * 1.01], [batch], tolerance=1e-4)


def test_the_proof_refuses_values_that_are_not_finite() -> None:
    batch = np.full((1, 4), np.nan, np.float32)
    with pytest.raises(ConvertError, match="not finite"):
        prove(lambda x: [x], lambda x: [x], [batch], tolerance=1)


def test_the_proof_refuses_another_shape() -> None:
    with pytest.raises(ConvertError, match="gives"):
        prove(lambda x: [x], lambda x: [x[:1]], [weights(2, 4)], tolerance=1)
