"""MXNet networks to ONNX: recorded numbers of MXNet, its defaults, and files of every version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compreface_convert.emit import to_bytes
from compreface_convert.errors import ConvertError
from compreface_convert.mxnet_emit import emit
from compreface_convert.mxnet_graph import Attrs, Network
from compreface_convert.mxnet_params import read_params
from compreface_convert.mxnet_run import run
from compreface_convert.mxnet_symbol import read_mxnet
from compreface_convert.proof import run_onnx
from tests.convert.mxnet_small import (
    OLDEST,
    V1,
    V2,
    V3,
    Line,
    network,
    norm,
    params,
    statistics,
    symbol,
)
from tests.shared import needs_shared, shared

RECORDINGS = Path(__file__).parent / "recordings"
TOLERANCE = 1e-4

Picture = tuple[int, int, int]


def converted(net: Network, picture: Picture, batch: Any, *, free_size: bool = False) -> list[Any]:
    model = to_bytes(emit(net, picture, free_size=free_size))
    onnx.checker.check_model(onnx.load_model_from_string(model))
    result: list[Any] = run_onnx(model, batch, list(net.outputs))
    return result


def both(net: Network, batch: Any) -> Any:
    """The only output, for which the NumPy judge and the ONNX file must agree."""
    (judged,), (result,) = run(net, batch), converted(net, batch.shape[1:], batch)
    assert np.abs(judged - result).max() < 1e-5 * max(1, np.abs(judged).max())
    return judged


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- against MXNet ------------------------------------------------------------------------------


def test_each_operator_gives_what_mxnet_gave() -> None:
    weights = read_params((RECORDINGS / "mxnet_odd_ends.params").read_bytes())
    net = read_mxnet((RECORDINGS / "mxnet_odd_ends-symbol.json").read_bytes(), weights, cut=True)
    with np.load(RECORDINGS / "mxnet_odd_ends.npz", allow_pickle=False) as arrays:
        batch = arrays["0_input"]
        expected = {name: arrays[f"0_output_{name}"] for name in net.outputs}
    judged = dict(zip(net.outputs, run(net, batch), strict=True))
    result = dict(zip(net.outputs, converted(net, batch.shape[1:], batch), strict=True))
    assert len(expected) > 15
    for name, value in expected.items():
        assert np.abs(judged[name] - value).max() < 1e-6, name
        assert np.abs(result[name] - value).max() < 1e-6, name


def real(folder: str, prefix: str) -> tuple[Network, dict[str, Any]]:
    files = [shared("models", folder, f"{prefix}{end}") for end in ("-symbol.json", "-0000.params")]
    net = read_mxnet(files[0].read_bytes(), read_params(files[1].read_bytes()), cut=True)
    with np.load(shared("models", folder, "mxnet_reference.npz"), allow_pickle=False) as arrays:
        return net, dict(arrays)


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("folder", ["arcface_mobilefacenet", "genderage_v1"])
def test_real_networks_of_faces_give_what_mxnet_gave(folder: str) -> None:
    net, arrays = real(folder, "model")
    for kind in ("faces", "random"):
        batch = arrays[f"{kind}_rgb_nchw_u8"].astype(np.float32)
        (judged,), (result,) = run(net, batch), converted(net, (3, 112, 112), batch)
        differences = [float(np.abs(x - arrays[f"{kind}_fc1"]).max()) for x in (judged, result)]
        print(f"{folder}, {kind}: NumPy and ONNX differ from MXNet by {differences}")
        assert max(differences) < TOLERANCE


@needs_shared
def test_the_real_detector_gives_what_mxnet_gave_at_odd_sizes() -> None:
    net, arrays = real("retinaface_mnet025", "mnet.25")
    names = [f"face_rpn_{kind}_stride{stride}" for stride in (32, 16, 8)
             for kind in ("cls_prob_reshape", "bbox_pred", "landmark_pred")]  # fmt: skip
    assert list(net.outputs) == names
    for picture in ("012_4", "016_8"):
        batch = arrays[f"input_{picture}"].astype(np.float32)
        expected = [arrays[f"{name}_output__{picture}"] for name in names]
        differences = [
            max(float(np.abs(x - y).max()) for x, y in zip(values, expected, strict=True))
            for values in (run(net, batch), converted(net, (3, 64, 96), batch, free_size=True))
        ]
        print(f"{picture}: NumPy and ONNX differ from MXNet by {differences}")
        assert max(differences) < TOLERANCE


# --- MXNet's defaults, not ONNX's ---------------------------------------------------------------


def test_an_absent_eps_is_a_thousandth() -> None:
    net = network(
        norm("data", "n", fix_gamma="False"),
        n_gamma=[2.0], n_beta=[0.0], n_moving_mean=[0.0], n_moving_var=[0.0],
    )  # fmt: skip
    result = both(net, np.ones((1, 1, 2, 2), np.float32))
    assert np.allclose(result, 2 / np.sqrt(1e-3))


def test_gamma_counts_as_one_unless_the_file_says_otherwise() -> None:
    weights = statistics("n", 3)
    batch = noise(2, 3, 4, 4)
    fixed = both(network(norm("data", "n"), **weights), batch)
    free = both(network(norm("data", "n", fix_gamma="False"), **weights), batch)
    ones = {**weights, "n_gamma": np.ones(3)}
    assert np.allclose(fixed, both(network(norm("data", "n", fix_gamma="0"), **ones), batch))
    assert np.abs(fixed - free).max() > 0.1


@pytest.mark.parametrize(("texts", "factor"), [({}, 0.25), ({"slope": "0.1"}, 0.1)])
def test_an_absent_slope_is_a_quarter(texts: dict[str, str], factor: float) -> None:
    net = network(("LeakyReLU", "out", ["data"], texts))
    batch = noise(1, 2, 3, 3)
    assert np.allclose(both(net, batch), np.where(batch > 0, batch, batch * factor))


def test_a_dense_layer_flattens_and_has_a_bias() -> None:
    weights, bias = noise(4, 18, seed=1), noise(4, seed=2)
    net = network(("FullyConnected", "fc1", ["data", "w", "b"], {}), w=weights, b=bias)
    batch = noise(3, 2, 3, 3)
    assert np.allclose(both(net, batch), batch.reshape(3, 18) @ weights.T + bias, atol=1e-5)


def test_an_absent_stride_is_one_and_an_absent_pad_none() -> None:
    net = network(("Convolution", "c", ["data", "w"], {"no_bias": "True"}), w=np.ones((1, 1, 2, 2)))
    batch = np.ones((1, 1, 4, 5), np.float32)
    assert np.array_equal(both(net, batch), np.full((1, 1, 3, 4), 4, np.float32))


def test_a_concatenation_without_axis_is_along_the_channels() -> None:
    net = network(("Concat", "out", ["data", "data"], {}))
    assert both(net, noise(2, 3, 2, 2)).shape == (2, 6, 2, 2)


# --- traps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 5, 5, 5), (2, 5)])
def test_a_slope_a_channel_meets_the_channels_whatever_the_rank(shape: tuple[int, ...]) -> None:
    """A slope [C] would be taken along the width by ONNX, silently where that is C too."""
    channels = shape[1]
    slope = noise(channels, seed=3)
    lines: list[Line] = [("LeakyReLU", "out", ["data", "s"], {"act_type": "prelu"})]
    batch = noise(2, channels, 1, 1) if len(shape) == 2 else noise(*shape)
    if len(shape) == 2:
        lines.insert(0, ("Flatten", "flat", ["data"], {}))
        lines[1] = ("LeakyReLU", "out", ["flat", "s"], {"act_type": "prelu"})
    fed = batch.reshape(shape)
    shaped = slope.reshape(-1, *[1] * (len(shape) - 2))
    expected = np.where(fed > 0, fed, fed * shaped)
    net = network(*lines, s=slope)
    assert np.allclose(both(net, batch), expected, atol=1e-6)
    operator = to_bytes(emit(net, batch.shape[1:], free_size=False, prelu="operator"))
    assert np.allclose(run_onnx(operator, batch, ["out"])[0], expected, atol=1e-6)


def test_prelu_on_pictures_becomes_convolutions_unless_it_is_to_stay() -> None:
    lines = ("LeakyReLU", "out", ["data", "s"], {"act_type": "prelu"})
    net = network(lines, s=noise(4))
    kinds = {
        form: {
            node.op_type for node in emit(net, (4, 3, 3), free_size=False, prelu=form).graph.node
        }
        for form in ("convolutions", "operator")
    }
    assert "PRelu" not in kinds["convolutions"]
    assert kinds["operator"] == {"PRelu"}


def test_a_batch_norm_behind_a_convolution_disappears_in_it() -> None:
    lines: list[Line] = [("Convolution", "c", ["data", "w", "b"], {"pad": "(1,1)"}), norm("c", "n")]
    net = network(*lines, w=noise(3, 2, 3, 3), b=noise(3), **statistics("n", 3))
    both(net, noise(2, 2, 5, 5))
    model = emit(net, (2, 5, 5), free_size=False)
    assert [node.op_type for node in model.graph.node] == ["Conv"]


@pytest.mark.parametrize("first", [True, False])
def test_a_batch_norm_stays_where_its_convolution_has_another_user(first: bool) -> None:
    users: list[Line] = [norm("c", "n"), ("relu", "r", ["c"], {})]
    lines: list[Line] = [
        ("Convolution", "c", ["data", "w"], {"no_bias": "True"}),
        *(users if first else reversed(users)),
        ("elemwise_add", "out", ["r", "n"], {}),
    ]
    both(network(*lines, w=noise(3, 2, 1, 1), **statistics("n", 3)), noise(2, 2, 5, 5))


def test_a_batch_norm_before_a_padded_convolution_is_exact_at_the_border() -> None:
    lines: list[Line] = [
        norm("data", "n", fix_gamma="False"),
        ("Convolution", "c", ["n", "w"], {"no_bias": "True", "pad": "(1, 1)", "kernel": "(3, 3)"}),
        norm("c", "m"),
    ]
    weights = statistics("n", 2) | statistics("m", 3, seed=1)
    both(network(*lines, w=noise(3, 2, 3, 3), **weights), noise(2, 2, 4, 4))


def test_what_training_needs_is_cut_off_at_fc1() -> None:
    lines: list[Line] = [
        ("FullyConnected", "pre_fc1", ["data", "w"], {"no_bias": "True"}),
        norm("pre_fc1", "fc1"),
        ("BlockGrad", "blocked", ["fc1"], {}),
        ("FullyConnected", "fc7", ["fc1", "absent_weight"], {"no_bias": "True"}),
        ("SoftmaxOutput", "softmax", ["fc7", "softmax_label"], {}),
    ]
    weights = {"w": noise(4, 12), **statistics("fc1", 4)}
    net = network(*lines, heads=["blocked", "softmax"], **weights)
    assert list(net.outputs) == ["fc1"]
    both(net, noise(2, 3, 2, 2))


def test_a_softmax_output_gives_probabilities_and_needs_no_label() -> None:
    lines: list[Line] = [
        ("FullyConnected", "scores", ["data", "w"], {"no_bias": "True"}),
        ("SoftmaxOutput", "softmax", ["scores", "softmax_label"], {}),
    ]
    result = both(network(*lines, w=noise(4, 12)), noise(2, 3, 2, 2))
    assert np.allclose(result.sum(axis=1), 1)


@pytest.mark.parametrize("op", ["_copy", "identity", "Dropout", "BlockGrad"])
def test_what_does_nothing_at_inference_is_left_out(op: str) -> None:
    net = network(("relu", "r", ["data"], {}), (op, "out", ["r"], {}))
    batch = noise(1, 2, 3, 3)
    assert np.array_equal(both(net, batch), np.maximum(batch, 0))
    assert list(net.outputs) == ["out"]
    assert len(emit(net, (2, 3, 3), free_size=False).graph.node) == 1


def test_sizes_are_free_and_odd_maps_are_cut() -> None:
    lines: list[Line] = [
        ("Pooling", "p", ["data"], {"kernel": "(3,3)", "stride": "(2,2)", "pad": "(1,1)"}),
        ("UpSampling", "u", ["p"], {"scale": "2", "sample_type": "nearest", "num_args": "1"}),
        ("Crop", "c", ["u", "data"], {"num_args": "2"}),
        ("elemwise_add", "sum", ["c", "data"], {}),
        ("Reshape", "r", ["sum"], {"shape": "(0, 2, -1, 0)"}),
        ("SoftmaxActivation", "s", ["r"], {"mode": "channel"}),
        ("Reshape", "out", ["s"], {"shape": "(0,4,-1,0)"}),
    ]
    net = network(*lines)
    model = to_bytes(emit(net, (4, 8, 8), free_size=True))
    for batch in (noise(1, 4, 8, 8), noise(2, 4, 7, 11), noise(3, 4, 13, 6)):
        (judged,), (result,) = run(net, batch), run_onnx(model, batch, ["out"])
        assert np.abs(judged - result).max() < 1e-6
        assert np.allclose(result[:, :2] + result[:, 2:], 1, atol=1e-6)
    graph = onnx.load_model_from_string(model).graph
    dims = [d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 4, "out_2", "out_3"]


def test_preparing_twice_gives_the_same_bytes() -> None:
    net = network(("LeakyReLU", "out", ["data", "s"], {"act_type": "prelu"}), s=noise(4))
    first, second = (to_bytes(emit(net, (4, 3, 3), free_size=False)) for _ in range(2))
    assert first == second


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("magic", [V1, V2, V3, OLDEST], ids=["v1", "v2", "v3", "oldest"])
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "uint8", "int32", "int64"])
def test_weights_are_read_from_files_of_every_age_and_type(magic: int, kind: str) -> None:
    value = np.arange(6, dtype=kind).reshape(1, 2, 3)
    result = read_params(params({"arg:a": value, "aux:b": value[0], "c": value[0, 0]}, magic))
    assert list(result) == ["a", "b", "c"]
    assert result["a"].dtype == value.dtype
    assert np.array_equal(result["a"], value)
    assert np.array_equal(result["b"], value[0])


def test_only_an_np_shape_file_has_scalars() -> None:
    result = read_params(params({"a": np.float32(2.5)}, V3))
    assert result["a"].shape == ()
    with pytest.raises(ConvertError):
        read_params(params({"a": np.float32(2.5)}, V2))


@pytest.mark.parametrize("key", ["attrs", "attr", "param"])
def test_attributes_are_found_under_each_name_they_had(key: str) -> None:
    data = symbol(("LeakyReLU", "out", ["data"], {"slope": "0.5"}), key=key)
    (step,) = read_mxnet(data, {}, cut=False).steps
    assert step.attrs.real("slope", 0) == 0.5


def test_files_of_the_first_versions_are_read() -> None:
    """References of two numbers, and statistics that the graph does not name."""
    nodes: list[dict[str, Any]] = [{"op": "null", "name": name, "inputs": []}
             for name in ("data", "n_gamma", "n_beta")]  # fmt: skip
    nodes.append(
        {"op": "BatchNorm", "name": "n", "param": {"fix_gamma": "False"},
         "attr": {"lr_mult": "1"}, "inputs": [[0, 0], [1, 0], [2, 0]]}
    )  # fmt: skip
    data = json.dumps({"nodes": nodes, "heads": [[3, 0]]}).encode()
    weights = statistics("n", 2)
    old = read_mxnet(data, weights, cut=False)
    batch = noise(1, 2, 3, 3)
    new = network(norm("data", "n", fix_gamma="False"), **weights)
    assert np.allclose(run(old, batch)[0], run(new, batch)[0])


@pytest.mark.parametrize("text", ["(3, 4)", "(3,4)", "[3, 4]", "(3L, 4L)", " ( 3 ,4 ) "])
def test_sizes_are_read_with_and_without_blanks(text: str) -> None:
    assert Attrs({"kernel": text}).pair("kernel", 0, 1) == (3, 4)


@pytest.mark.parametrize(
    "text", ["(3, x)", "(3.5, 3)", "3e9", "(99999999, 1)", "(1, 2, 3)", "(0, 1)"]
)
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConvertError, match="kernel"):
        Attrs({"kernel": text}).pair("kernel", 0, 1)
