"""Broken and hostile MXNet files: always a ConvertError, within limits of time and memory."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compreface_convert import gluon
from compreface_convert.errors import ConvertError
from compreface_convert.mxnet_emit import emit
from compreface_convert.mxnet_graph import Network
from compreface_convert.mxnet_params import read_params
from compreface_convert.mxnet_run import run
from compreface_convert.mxnet_symbol import read_mxnet
from tests.convert.mxnet_small import OLDEST, V2, Line, network, norm, params, statistics, symbol

LINES: list[Line] = [
    ("_minus_scalar", "m", ["data"], {"scalar": "127.5"}),
    ("Convolution", "c", ["m", "w"], {"no_bias": "True", "kernel": "(3, 3)", "pad": "(1,1)"}),
    norm("c", "n", eps="2e-5"),
    ("LeakyReLU", "l", ["n", "s"], {"act_type": "prelu"}),
    ("Pooling", "p", ["l"], {"kernel": "(2, 2)", "stride": "(2, 2)", "pool_type": "avg"}),
    ("FullyConnected", "fc1", ["p", "f", "b"], {"num_hidden": "5"}),
]
WEIGHTS: dict[str, Any] = {
    "w": np.ones((4, 3, 3, 3), np.float32),
    **{name: value.astype(np.float32) for name, value in statistics("n", 4).items()},
    "s": np.full(4, 0.2, np.float32),
    "f": np.ones((5, 64), np.float32),
    "b": np.ones(5, np.float32),
}
SYMBOL = symbol(*LINES)
PARAMS = {"new": params(WEIGHTS, V2), "oldest": params(WEIGHTS, OLDEST)}
PICTURE = (3, 8, 8)


def convert(symbol_data: bytes, params_data: bytes) -> None:
    net = read_mxnet(symbol_data, read_params(params_data), cut=True)
    run(net, np.zeros((1, *PICTURE), np.float32))
    emit(net, PICTURE, free_size=False)


@pytest.mark.parametrize("age", PARAMS)
def test_the_whole_files_convert(age: str) -> None:
    convert(SYMBOL, PARAMS[age])


@pytest.mark.parametrize("age", PARAMS)
def test_weights_cut_anywhere_are_refused(age: str) -> None:
    data = PARAMS[age]
    for offset in range(0, len(data), 3):
        with pytest.raises(ConvertError):
            read_params(data[:offset])


def test_a_symbol_cut_anywhere_is_refused() -> None:
    for offset in range(0, len(SYMBOL), 7):
        with pytest.raises(ConvertError):
            read_mxnet(SYMBOL[:offset], WEIGHTS, cut=True)


def test_weights_that_go_on_are_refused() -> None:
    with pytest.raises(ConvertError, match="after its end"):
        read_params(PARAMS["new"] + b"\0")


@pytest.mark.parametrize("age", PARAMS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6))
def test_flipped_bytes_are_converted_or_refused(age: str, flips: list[tuple[int, int]]) -> None:
    broken = bytearray(PARAMS[age])
    for place, mask in flips:
        broken[place % len(broken)] ^= mask
    with suppress(ConvertError):
        convert(SYMBOL, bytes(broken))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4))
def test_flipped_bytes_of_a_symbol_are_converted_or_refused(flips: list[tuple[int, int]]) -> None:
    broken = bytearray(SYMBOL)
    for place, mask in flips:
        broken[place % len(broken)] ^= mask
    with suppress(ConvertError):
        convert(bytes(broken), PARAMS["new"])


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    place=st.integers(0, 10**6),
    value=st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20, 0xF993FAC8, 0xF993FACA]),
)
def test_lying_lengths_are_converted_or_refused(place: int, value: int) -> None:
    broken = bytearray(PARAMS["new"])
    at = place % (len(broken) - 4) // 4 * 4
    broken[at : at + 4] = struct.pack("<I", value)
    with suppress(ConvertError):
        convert(SYMBOL, bytes(broken))


VALUES = st.sampled_from(
    ["", "(", "()", "(0, 0)", "(-1, -1)", "(1048576, 1048576)", "(9,9)", "None", "nan", "inf",
     "1e400", "-5", "0", "3", "(1,)", "True", "prelu", "avg", "x" * 999, "(2, -2, -3, -4)"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["kernel", "stride", "pad", "dilate", "num_group", "eps", "fix_gamma", "axis", "act_type",
     "slope", "scalar", "pool_type", "global_pool", "pooling_convention", "flatten", "no_bias"]
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.integers(0, 5), KEYS, VALUES), min_size=1, max_size=4))
def test_wild_attributes_are_converted_or_refused(changes: list[tuple[int, str, str]]) -> None:
    lines = [(op, name, inputs, dict(attrs)) for op, name, inputs, attrs in LINES]
    for place, key, value in changes:
        lines[place][3][key] = value
    with suppress(ConvertError):
        convert(symbol(*lines), PARAMS["new"])


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(ConvertError):
        read_params(struct.pack("<Q", 0x112) + data)
    with pytest.raises(ConvertError):
        read_mxnet(data, {}, cut=True)
    with pytest.raises(ConvertError):
        gluon.build("resnet18_v1", {str(data): np.zeros(1)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["nodes", "heads", "op", "name", "inputs", "attrs"]), inner, max_size=6
    ),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(nodes=JSON, heads=JSON)
def test_any_other_json_is_refused(nodes: Any, heads: Any) -> None:
    with pytest.raises(ConvertError):
        read_mxnet(json.dumps({"nodes": nodes, "heads": heads}).encode(), {}, cut=False)


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(ConvertError, match="not JSON"):
        read_mxnet(b"[" * 200_000, {}, cut=True)


def test_an_array_that_claims_more_than_the_file_holds_is_refused() -> None:
    head = struct.pack("<QQQIii", 0x112, 0, 1, V2, 0, 2)
    for shape in ((1 << 40, 1 << 20), (1 << 31, 4), (-1, 4)):
        with pytest.raises(ConvertError):
            read_params(head + struct.pack("<qqiii", *shape, 1, 0, 0) + bytes(64))


def test_a_count_of_arrays_beyond_the_file_is_refused() -> None:
    with pytest.raises(ConvertError, match="too many arrays"):
        read_params(struct.pack("<QQQ", 0x112, 0, 1 << 60) + bytes(64))


def test_a_sparse_array_is_refused() -> None:
    data = struct.pack("<QQQIi", 0x112, 0, 1, V2, 1) + bytes(64)
    with pytest.raises(ConvertError, match="sparse"):
        read_params(data)


def test_references_forward_are_refused() -> None:
    nodes = [{"op": "relu", "name": "a", "inputs": [[1, 0, 0]]},
             {"op": "relu", "name": "b", "inputs": [[0, 0, 0]]}]  # fmt: skip
    with pytest.raises(ConvertError, match="reference"):
        read_mxnet(json.dumps({"nodes": nodes, "heads": [[1, 0, 0]]}).encode(), {}, cut=True)


def test_weights_of_another_network_are_named() -> None:
    with pytest.raises(ConvertError, match="does not fit the symbol: it has no w"):
        read_mxnet(SYMBOL, {k: v for k, v in WEIGHTS.items() if k != "w"}, cut=True)


def test_an_unknown_operator_is_named_with_its_node() -> None:
    net = network(("RNN", "deep", ["data"], {}))
    with pytest.raises(ConvertError, match=r"RNN \(node 'deep'\) is not supported"):
        emit(net, PICTURE, free_size=False)


def bomb(op: str, inputs: list[str], attrs: dict[str, str], **weights: Any) -> Network:
    return network((op, "out", ["data", *inputs], attrs), **weights)


@pytest.mark.parametrize(
    "net",
    [
        bomb("UpSampling", [], {"scale": "1048576", "sample_type": "nearest"}),
        bomb("Pooling", [], {"kernel": "(4096, 4096)"}),
        bomb("Pooling", [], {"kernel": "(2, 2)", "pad": "(1048576, 1048576)"}),
        bomb("Pooling", [], {"kernel": "(2, 2)", "stride": "(0, 1)"}),
        bomb("Convolution", ["w"], {"no_bias": "1", "num_group": "0"}, w=np.ones((4, 3, 3, 3))),
        bomb("Convolution", ["w"], {"no_bias": "1", "pad": "(9999,9999)"}, w=np.ones((1, 3, 1, 1))),
        bomb("Convolution", ["w"], {"no_bias": "1"}, w=np.ones((4, 3, 0, 0))),
        bomb("Reshape", [], {"shape": "(0, 1048576, 1048576)"}),
        bomb("Reshape", [], {"shape": "(-3, 0, 0)"}),
        bomb("Reshape", [], {"shape": "(2, -1)"}),
        bomb("BatchNorm", ["a", "a", "a"], {"axis": "3"}, a=np.ones(8)),
    ],
    ids=lambda net: net.steps[-1].op,
)  # fmt: skip
def test_operators_that_would_flood_the_memory_are_refused(net: Network) -> None:
    with pytest.raises(ConvertError, match="node 'out'"):
        run(net, np.zeros((1, *PICTURE), np.float32))


def test_a_very_deep_network_needs_no_recursion() -> None:
    lines: list[Line] = [("_copy", "r0", ["data"], {})]
    lines += [("_mul_scalar", f"r{i}", [f"r{i - 1}"], {"scalar": "1"}) for i in range(1, 5000)]
    (result,) = run(network(*lines), np.ones((1, 1, 1, 1), np.float32))
    assert result.item() == 1
