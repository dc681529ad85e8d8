"""SavedModels of Keras read without TensorFlow: the same numbers, and refusals of broken files."""

from __future__ import annotations

import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import run
from compreface_convert.graph import Graph
from compreface_convert.proof import run_onnx
from compreface_convert.saved_model import read_saved_model
from tests.convert import tensor_tables as tables
from tests.convert.tensor_tables import field
from tests.convert.test_checkpoint import files
from tests.convert.test_hostile import finish
from tests.convert.test_recorded import RECORDINGS, as_onnx, nchw, operators, recorded
from tests.frameworks import seeded

SIDE = 20
RECORDED = ("keras2_small", "keras3_small")
PB = "saved_model.pb"


def unpacked(name: str, where: Path) -> dict[str, Path]:
    with zipfile.ZipFile(RECORDINGS / f"{name}.zip") as packed:
        packed.extractall(where / name)
    return files(where / name)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_model_gives_what_tensorflow_gave(name: str, tmp_path: Path) -> None:
    """Keras 2: fused batch norms, variables by the restore operation. Keras 3: neither."""
    graph = read_saved_model(unpacked(name, tmp_path))
    expected = recorded("tensorflow_folders.npz")[name]
    batch = seeded.pictures(2, 4, SIDE, SIDE, 3)
    (judged,) = run(graph, {next(iter(graph.inputs)): batch})
    (result,) = run_onnx(as_onnx(graph, SIDE), nchw(batch), ["embeddings"])
    assert np.abs(judged - expected).max() < 1e-6
    assert np.abs(result - expected).max() < 1e-6


@pytest.mark.parametrize("name", RECORDED)
def test_batch_norms_are_folded_and_dropout_is_gone(name: str, tmp_path: Path) -> None:
    model = as_onnx(read_saved_model(unpacked(name, tmp_path)), SIDE)
    assert operators(model) <= {
        *("Conv", "Relu", "Clip", "AveragePool", "MaxPool", "Concat", "Add", "Flatten"),
        *("Gemm", "Tanh", "Softmax"),
    }


def test_input_and_outputs_are_the_signatures(tmp_path: Path) -> None:
    graph = read_saved_model(unpacked("keras2_small", tmp_path))
    assert graph.inputs == {"serving_default_input_1": (None, SIDE, SIDE, 3)}
    assert graph.outputs == ("dense_1",)


@pytest.mark.parametrize("name", [PB, "variables.index", "variables.data-00000-of-00001"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    result = unpacked("keras2_small", tmp_path)
    left = {key: path for key, path in result.items() if path.name != name}
    with pytest.raises(ConvertError, match=f"the file '{name}' is missing"):
        read_saved_model(left)


def test_a_damaged_weight_is_refused(tmp_path: Path) -> None:
    result = unpacked("keras3_small", tmp_path)
    path = result["variables/variables.data-00000-of-00001"]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 16
    path.write_bytes(data)
    with pytest.raises(ConvertError, match="checksum"):
        read_saved_model(result)


# --- a model by hand ------------------------------------------------------------------------------


def node(name: str, op: str, *inputs: str, **attrs: bytes) -> bytes:
    body = field(1, name.encode()) + field(2, op.encode())
    body += b"".join(field(3, each.encode()) for each in inputs)
    for key, value in attrs.items():
        body += field(5, field(1, key.encode()) + field(2, value))
    return body


def call(name: str, function: str, *inputs: str) -> bytes:
    return node(name, "StatefulPartitionedCall", *inputs, f=field(10, field(1, function.encode())))


def texts(name: str, *values: bytes) -> bytes:
    tensor = field(1, 7) + field(2, tables.shape(len(values)))
    return node(name, "Const", value=field(8, tensor + b"".join(field(8, each) for each in values)))


def function(name: str, arguments: str, results: dict[str, str], *nodes: bytes) -> bytes:
    signature = field(1, name.encode())
    signature += b"".join(field(2, field(1, each.encode())) for each in arguments.split())
    signature += b"".join(field(3, field(1, each.encode())) for each in results)
    body = field(1, signature) + b"".join(field(3, each) for each in nodes)
    for key, value in results.items():
        body += field(4, field(1, key.encode()) + field(2, value.encode()))
    return field(1, body)


def tensor_info(name: str, dtype: int = 1) -> bytes:
    return field(1, f"{name}:0".encode()) + field(2, dtype) + field(3, tables.shape(-1, 1, 1, 3))


def restoring(slices: bytes = b"", names: tuple[bytes, ...] = (b"other", b"scale")) -> bytes:
    return function(
        "restore",
        "prefix v",
        {},
        texts("names", *names),
        texts("slices", b"", slices),
        node("read", "RestoreV2", "prefix", "names:output:0", "slices:output:0"),
        node("same", "Identity", "read:tensors:1"),
        node("set", "AssignVariableOp", "v", "same:output:0"),
    )


SCALING = function(
    "scaling",
    "x v",
    {"y": "product:z:0"},
    node("read", "ReadVariableOp", "v"),
    node("product", "Mul", "x", "read:value:0"),
)
SERVING = function("serving", "x v", {"out": "inner:output:0"}, call("inner", "scaling", "x", "v"))


def model(
    where: Path,
    *library: bytes,
    main: bytes = call("call", "serving", "in", "var"),
    output: str = "call",
    extra: bytes = b"",
    inputs: bytes = field(1, field(1, b"x") + field(2, tensor_info("in"))),
    restore: bytes = b"call_restore",
    tag: bytes = b"serve",
    signature: bytes = b"serving_default",
    objects: bytes = b"",
    kept: bytes = b"",
    dims: tuple[int, ...] = (3,),
) -> Graph:
    """A SavedModel of `out = in * var`, changed in one place."""
    shape = field(7, tables.shape(3))
    nodes = [
        node("in", "Placeholder"),
        node("saver", "Placeholder"),
        node("var", "VarHandleOp", shape=shape),
        main,
        call("call_restore", "restore", "saver", "var"),
    ]
    graph = b"".join(field(1, each) for each in nodes) + extra
    graph += field(2, b"".join(library or (SCALING, SERVING, restoring())))
    signed = inputs + field(2, field(1, b"score") + field(2, tensor_info(output)))
    meta = field(1, field(4, tag)) + field(2, graph)
    meta += field(3, field(3, restore)) if restore else b""
    meta += field(5, field(1, signature) + field(2, signed)) + field(7, objects)
    (where / PB).write_bytes(field(2, meta))
    data = struct.pack("<3f", 1, 2, 3)
    text = bytes([len(kept)]) + b"sums" + kept
    entries = {
        b"": tables.header(),
        b"_CHECKPOINTABLE_OBJECT_GRAPH": tables.entry(
            struct.pack("<I", len(kept)) + b"sums" + kept,
            *((),),
            offset=len(data),
            size=len(text),
            dtype=7,
        ),
        b"scale": tables.entry(data, dims),
    }
    (where / "variables.index").write_bytes(tables.table(entries))
    (where / "variables.data-00000-of-00001").write_bytes(data + text)
    return read_saved_model(files(where))


def test_calls_within_calls_are_looked_through(tmp_path: Path) -> None:
    graph = model(tmp_path)
    assert graph.outputs == ("score",)
    (result,) = run(graph, {"in": np.full((1, 1, 1, 3), 2, np.float32)})
    assert result.reshape(-1).tolist() == [2, 4, 6]


def test_a_function_called_twice_stands_twice(tmp_path: Path) -> None:
    twice = function(
        "serving",
        "x v",
        {"out": "b:output:0"},
        call("a", "scaling", "x", "v"),
        call("b", "scaling", "a:output:0", "v"),
    )
    graph = model(tmp_path, SCALING, twice, restoring())
    (result,) = run(graph, {"in": np.ones((1, 1, 1, 3), np.float32)})
    assert result.reshape(-1).tolist() == [1, 4, 9]


def test_a_function_may_give_its_argument_back(tmp_path: Path) -> None:
    graph = model(tmp_path, function("serving", "x v", {"out": "x"}), restoring())
    (result,) = run(graph, {"in": np.ones((1, 1, 1, 3), np.float32)})
    assert result.reshape(-1).tolist() == [1, 1, 1]


def test_a_second_output_inside_a_function_is_not_the_first(tmp_path: Path) -> None:
    norm = node("norm", "FusedBatchNormV3", *["x"] * 5)
    graph = model(
        tmp_path,
        function("serving", "x v", {"out": "norm:batch_variance:0"}, norm),
        restoring(),
    )
    with pytest.raises(ConvertError, match="output 2 of FusedBatchNormV3"):
        run(graph, {"in": np.ones((1, 1, 1, 3), np.float32)})


def test_long_chains_of_identities_are_walked_once(tmp_path: Path) -> None:
    chain = [node("i0", "Identity", "in")]
    chain += [node(f"i{i}", "Identity", f"i{i - 1}") for i in range(1, 15_000)]
    many = node("many", "Pack", *["i14999"] * 15_000)
    graph = model(
        tmp_path, extra=b"".join(field(1, each) for each in [*chain, many]), output="many"
    )
    assert set(graph.nodes["many"].inputs) == {"in"}


def child(name: str, place: int) -> bytes:
    return field(1, field(1, place) + field(2, name.encode()))


def captured(place: int) -> bytes:
    """A SavedObjectGraph: root, `a` with `b`, which the function `serving` captured."""
    nodes = field(1, child("a", 1)) + field(1, child("b", 2)) + field(1, b"")
    bound = field(1, b"serving") + field(2, field(2, tables.varint(place)))
    return nodes + field(2, bound)


def kept_at(place: int) -> bytes:
    """A TrackableObjectGraph whose `a`/`b` is object `place` of three, the last with a value."""
    value = field(2, field(1, b"VARIABLE_VALUE") + field(3, b"scale"))
    return field(1, child("a", 1)) + field(1, child("b", place)) + field(1, value)


def test_a_variable_that_is_not_restored_is_found_by_its_path(tmp_path: Path) -> None:
    graph = model(tmp_path, restore=b"", objects=captured(2), kept=kept_at(2))
    (result,) = run(graph, {"in": np.ones((1, 1, 1, 3), np.float32)})
    assert result.reshape(-1).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("objects", "kept", "message"),
    [
        (captured(1), kept_at(2), "is unknown"),
        (captured(77), kept_at(2), "is unknown"),
        (captured(2), field(1, b""), "is unknown"),
        (captured(2), kept_at(9), "refers to an object that it does not have"),
        (captured(2), kept_at(-1), "refers to an object that it does not have"),
        (captured(2), kept_at(1), "is unknown"),
    ],
)
def test_a_lying_graph_of_objects_is_refused(
    tmp_path: Path, objects: bytes, kept: bytes, message: str
) -> None:
    with pytest.raises(ConvertError, match=message):
        model(tmp_path, restore=b"", objects=objects, kept=kept)


ENDLESS = function("serving", "x v", {"out": "in:output:0"}, call("in", "serving", "x", "v"))
WIDE = function("serving", "x v", {"out": "x"}, *(node(f"n{i}", "NoOp") for i in range(3000)))
MANY = field(1, call("a", "serving", "in", "var")) + b"".join(
    field(1, call("a" * i, "serving", "a" * (i - 1), "var")) for i in range(2, 30)
)
FLOOD = b"".join(
    field(
        1,
        node(
            f"c{i}",
            "Const",
            value=field(8, field(1, 1) + field(2, tables.shape(1 << 20)) + field(5, b"0000")),
        ),
    )
    for i in range(32)
)
LOOP = field(1, node("a", "Identity", "b")) + field(1, node("b", "Identity", "a"))


@pytest.mark.parametrize(
    ("library", "changed", "message"),
    [
        ((), {"tag": b"train"}, "no graph with the tag 'serve'"),
        ((), {"signature": b"other"}, "no signature 'serving_default'"),
        ((), {"inputs": b""}, "single input; it has 0"),
        ((), {"output": "call:1"}, "has no result 1"),
        ((), {"output": "gone"}, "refers to 'gone'"),
        ((), {"output": "a", "extra": LOOP}, "a cycle"),
        ((), {"main": node("in", "NoOp")}, "two nodes named 'in'"),
        ((), {"main": call("call", "gone", "in", "var")}, "names no function"),
        ((), {"main": call("call", "serving", "in")}, "has 1 inputs"),
        ((), {"restore": b""}, "the tensor of the variable 'var'"),
        ((), {"restore": b"gone"}, "refers to 'gone'"),
        ((SCALING, SERVING, restoring(b"3 0,1")), {}, "in parts"),
        ((SCALING, SERVING, restoring(names=(b"scale",))), {}, "does not name what it restores"),
        ((SCALING, SERVING, restoring(names=(b"a", b"b"))), {}, "no tensor 'b'"),
        ((ENDLESS, restoring()), {}, "too deep"),
        ((), {"dims": (3, 1)}, r"'var' has the shape \[3\], its values \[3, 1\]"),
        ((), {"extra": FLOOD}, "larger than the file"),
        ((function("serving", "x v", {"out": "x"})[:-4], restoring()), {}, "broken|not give all"),
        ((WIDE, restoring()), {"extra": MANY, "output": "a" * 29}, "more than 50000 nodes"),
    ],
)
def test_a_lying_model_is_refused(
    tmp_path: Path, library: tuple[bytes, ...], changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ConvertError, match=message):
        model(tmp_path, *library, **changed)  # type: ignore[arg-type]


def test_an_input_of_another_type_is_refused(tmp_path: Path) -> None:
    whole = field(1, field(1, b"x") + field(2, tensor_info("in", dtype=4)))
    with pytest.raises(ConvertError, match="not float32"):
        model(tmp_path, inputs=whole)


# --- broken files ---------------------------------------------------------------------------------


def convert(result: dict[str, Path]) -> None:
    finish(read_saved_model(result), SIDE)


@pytest.mark.parametrize("name", RECORDED)
def test_a_graph_cut_anywhere_is_refused(name: str, tmp_path: Path) -> None:
    result = unpacked(name, tmp_path)
    whole = result[PB].read_bytes()
    for size in {*range(0, 100, 9), *range(100, len(whole), len(whole) // 40)}:
        result[PB].write_bytes(whole[:size])
        with pytest.raises(ConvertError):
            convert(result)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6))
def test_flipped_bytes_are_converted_or_refused(
    name: str, flips: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    where = tmp_path_factory.getbasetemp() / "flips"
    result = unpacked(name, where)
    broken = bytearray(result[PB].read_bytes())
    for place, mask in flips:
        broken[place % len(broken)] ^= mask
    result[PB].write_bytes(broken)
    with suppress(ConvertError):
        convert(result)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**6), value=st.sampled_from([0, 0x7F, 0xFF]), count=st.integers(1, 9))
def test_lying_lengths_are_converted_or_refused(
    name: str, place: int, value: int, count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    where = tmp_path_factory.getbasetemp() / "lengths"
    result = unpacked(name, where)
    broken = bytearray(result[PB].read_bytes())
    at = place % (len(broken) - count)
    broken[at : at + count] = bytes([value]) * count
    result[PB].write_bytes(broken)
    with suppress(ConvertError):
        convert(result)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=300))
def test_noise_is_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.pb"
    path.write_bytes(data)
    with pytest.raises(ConvertError):
        read_saved_model({PB: path})
