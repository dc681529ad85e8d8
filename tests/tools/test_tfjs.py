"""TensorFlow.js weights: what is read, and every refusal of a wrong manifest or shard."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compreface_convert.emit import Form, emit, to_bytes
from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import run, specialise
from compreface_convert.graph import Array, Levels
from compreface_convert.proof import run_onnx
from compreface_convert.simplify import simplify
from tools import tfjs
from tools.tfjs import Weight, read_tfjs
from tools.tinyxception import INPUT, OUTPUT, SIDE, tinyxception

ROUNDED = {"dtype": "uint8", "scale": 0.5, "min": -3.0}


def manifest() -> list[dict[str, Any]]:
    """Two groups: one of two shards that cut a weight in two, one of one."""
    return [
        {
            "paths": ["a.bin", "b.bin"],
            "weights": [
                {"name": "plain", "shape": [2, 3], "dtype": "float32"},
                {"name": "rounded", "shape": [4], "dtype": "float32", "quantization": {**ROUNDED}},
            ],
        },
        {
            "paths": ["c.bin"],
            "weights": [
                {"name": "whole", "shape": [], "dtype": "int32"},
                {
                    "name": "half",
                    "shape": [2],
                    "dtype": "float32",
                    "quantization": {"dtype": "float16"},
                },
                {
                    "name": "fine",
                    "shape": [1, 2],
                    "dtype": "float32",
                    "quantization": {"dtype": "uint16", "scale": 0.25, "min": 1},
                },
            ],
        },
    ]


PLAIN = np.arange(6, dtype="<f4").tobytes()
SHARDS = {
    "a.bin": PLAIN[:10],
    "b.bin": PLAIN[10:] + bytes([0, 6, 7, 255]),
    "c.bin": np.array(-7, "<i4").tobytes()
    + np.array([0.5, -2], "<f2").tobytes()
    + np.array([0, 65535], "<u2").tobytes(),
}


def read(described: Any, shards: dict[str, bytes] | None = None) -> dict[str, Weight]:
    return read_tfjs(json.dumps(described).encode(), SHARDS if shards is None else shards)


def test_weights_are_read_from_all_shards_and_groups() -> None:
    result = read(manifest())
    assert list(result) == ["plain", "rounded", "whole", "half", "fine"]
    assert np.array_equal(result["plain"].values, [[0, 1, 2], [3, 4, 5]])
    assert result["rounded"].values.tolist() == [-3.0, 0.0, 0.5, 124.5]
    assert result["rounded"].levels == Levels(0.5, -3.0, "|u1")
    assert result["whole"].values.shape == ()
    assert result["whole"].values == -7
    assert result["half"].values.tolist() == [0.5, -2.0]
    assert result["fine"].values.tolist() == [[1.0, 16384.75]]
    assert {str(weight.values.dtype) for weight in result.values()} == {"float32", "int32"}
    assert result["plain"].levels is result["half"].levels is None


def test_levels_give_back_what_was_stored_and_nothing_that_lies_between_them() -> None:
    levels = Levels(0.005431825039433498, -0.7441600304023892, "|u1")
    whole = np.arange(256, dtype=np.uint8).reshape(16, 16)
    values = levels.values(whole)
    assert values.dtype == np.float32
    stored = levels.stored(values)
    assert stored is not None
    assert stored.dtype == np.uint8
    assert np.array_equal(stored, whole)
    assert levels.stored(values * np.float32(1.001)) is None
    assert levels.stored(values + np.float32(2)) is None
    assert levels.stored(values[:0]) is not None


def change(place: list[Any], key: Any, value: Any) -> Callable[[], Any]:
    """The manifest with one thing in it another; `...` takes it out."""

    def changed() -> Any:
        described: Any = manifest()
        at = described
        for step in place:
            at = at[step]
        if value is ...:
            del at[key]
        else:
            at[key] = value
        return described

    return changed


FIRST: list[Any] = [0, "weights", 0]
SECOND: list[Any] = [0, "weights", 1]
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "an object": (dict, "the manifest must be a list"),
    "no group": (list, "the manifest must be a list"),
    "a whole model": (lambda: {"weightsManifest": manifest()}, r"a whole model\.json"),
    "a number for a group": (lambda: [1], "group 0 of the manifest is not an object"),
    "no paths": (change([0], "paths", ...), "group 0 of the manifest has no 'paths'"),
    "empty paths": (change([0], "paths", []), "'paths' in group 0 .* must be a list"),
    "a text for paths": (change([0], "paths", "a.bin"), "'paths' in group 0 .* must be a list"),
    "a number for a path": (change([0, "paths"], 1, 5), "holds 5, which is not a file name"),
    "an empty path": (change([0, "paths"], 1, ""), "holds '', which is not a file name"),
    "a path with a zero": (change([0, "paths"], 1, "b\0.bin"), "which is not a file name"),
    "a path upwards": (change([0, "paths"], 1, "../b.bin"), r"'\.\./b\.bin' must be a file name"),
    "two dots": (change([0, "paths"], 1, ".."), "must be a file name without a folder"),
    "an absolute path": (change([0, "paths"], 1, "/b.bin"), "a file name without a folder"),
    "a folder": (change([0, "paths"], 1, "in/b.bin"), "a file name without a folder"),
    "a folder of Windows": (change([0, "paths"], 1, r"in\b.bin"), "without a folder"),
    "an address": (change([0, "paths"], 1, "https:b.bin"), "without a folder"),
    "a missing shard": (change([0, "paths"], 1, "d.bin"), r"shard 'd\.bin' is missing"),
    "a shard twice": (change([0, "paths"], 1, "a.bin"), r"names the shard 'a\.bin' twice"),
    "a shard of two groups": (change([1, "paths"], 0, "a.bin"), r"shard 'a\.bin' twice"),
    "a shard left over": (lambda: manifest()[:1], r"names no shard 'c\.bin'"),
    "no weights": (change([0], "weights", []), "'weights' in group 0 .* must be a list"),
    "a text for a weight": (change([0, "weights"], 0, "plain"), "weight 0 of .* not an object"),
    "no name": (change(FIRST, "name", ...), "weight 0 of group 0 of the manifest has no 'name'"),
    "an empty name": (change(FIRST, "name", ""), "the name of weight 0 of group 0 .* is ''"),
    "a number for a name": (change(FIRST, "name", 3), "the name of weight 0 .* is 3"),
    "a name twice": (change(SECOND, "name", "plain"), "the weight 'plain' twice"),
    "a name twice in two groups": (
        change([1, "weights", 0], "name", "plain"), "the weight 'plain' twice",
    ),
    "no dtype": (change(FIRST, "dtype", ...), "the weight 'plain' has no 'dtype'"),
    "an unknown dtype": (change(FIRST, "dtype", "complex64"), "'complex64'; supported are"),
    "texts": (change(FIRST, "dtype", "string"), "'string'; supported are float32, int32"),
    "a list for a dtype": (change(FIRST, "dtype", ["float32"]), "supported are float32, int32"),
    "no shape": (change(FIRST, "shape", ...), "the weight 'plain' has no 'shape'"),
    "a number for a shape": (change(FIRST, "shape", 6), "the shape of the weight 'plain' is 6"),
    "a negative side": (change(FIRST, "shape", [-2, -3]), r"'plain' is \[-2, -3\]"),
    "an empty side": (change(FIRST, "shape", [6, 0]), r"'plain' is \[6, 0\]"),
    "half a side": (change(FIRST, "shape", [1.5, 4]), r"'plain' is \[1\.5, 4\]"),
    "a truth for a side": (change(FIRST, "shape", [True, 6]), r"'plain' is \[True, 6\]"),
    "a huge side": (change(FIRST, "shape", [1 << 60]), "the shape of the weight 'plain'"),
    "a huge product": (change(FIRST, "shape", [1 << 20, 1 << 20]), "takes more than"),
    "nine sides": (change(FIRST, "shape", [1] * 9), "the shape of the weight 'plain'"),
    "too few bytes": (change(FIRST, "shape", [2, 4]), "take 36 bytes, its shards hold 28"),
    "bytes left over": (change(FIRST, "shape", [2, 2]), "8 bytes after the last weight"),
    "levels of an int32": (change(SECOND, "dtype", "int32"), "only float32 can be stored rounded"),
    "levels as a text": (change(SECOND, "quantization", "uint8"), "'quantization' .* an object"),
    "levels without a dtype": (
        change([*SECOND, "quantization"], "dtype", ...), "'quantization' of .* has no 'dtype'",
    ),
    "levels of an unknown dtype": (
        change([*SECOND, "quantization"], "dtype", "int4"),
        "stored dtype of the weight 'rounded' is 'int4'; supported are uint8, uint16, float16",
    ),
    "no scale": (change([*SECOND, "quantization"], "scale", ...), "has no 'scale'"),
    "no min": (change([*SECOND, "quantization"], "min", ...), "has no 'min'"),
    "a text for a scale": (change([*SECOND, "quantization"], "scale", "1"), "'scale' .* a number"),
    "a truth for a min": (change([*SECOND, "quantization"], "min", True), "'min' .* not a number"),
    "a scale of 0": (change([*SECOND, "quantization"], "scale", 0), "'scale' .* more than 0"),
    "a negative scale": (change([*SECOND, "quantization"], "scale", -1), "'scale' .* more than 0"),
    "an endless scale": (change([*SECOND, "quantization"], "scale", math.inf), "'scale' .* finite"),
    "no number for a min": (change([*SECOND, "quantization"], "min", math.nan), "'min' .* finite"),
    "a huge whole min": (change([*SECOND, "quantization"], "min", 10**400), "'min' .* finite"),
    "values beyond float32": (
        change([*SECOND, "quantization"], "scale", 3e38), "'rounded' has values that are not fin",
    ),
}  # fmt: skip


def test_the_helper_changes_one_thing() -> None:
    """Each case below is wrong by what it names, since the manifest itself is right."""
    assert read(change(FIRST, "name", "other")())


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_manifest_is_refused_with_what_is_wrong(case: str) -> None:
    described, message = WRONG[case]
    # An error of Python's own limit on digits is no JSON either.
    with pytest.raises(ConvertError, match=message):
        read(described())


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"\xff\xfe[]", b"[" * 100_000, b"[1,]", b"[" + b"9" * 5000 + b"]", b"null x"),
        json.dumps(manifest()).encode()[:-1],
    ],
    ids=repr,
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ConvertError, match="manifest of the weights is not JSON"):
        read_tfjs(data, SHARDS)


def test_deep_lists_in_odd_places_are_refused() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    for key in ("name", "shape", "dtype", "quantization"):
        with pytest.raises(ConvertError):
            read(change(SECOND, key, deep)())


def test_a_shard_too_many_or_too_short_or_too_long_is_refused() -> None:
    with pytest.raises(ConvertError, match=r"names no shard 'more\.bin'"):
        read(manifest(), {**SHARDS, "more.bin": b""})
    with pytest.raises(ConvertError, match="group 1 of the manifest take 12 bytes, its shards hol"):
        read(manifest(), {**SHARDS, "c.bin": SHARDS["c.bin"][:-1]})
    with pytest.raises(ConvertError, match=r"group 1 .* 1 bytes after the last weight"):
        read(manifest(), {**SHARDS, "c.bin": SHARDS["c.bin"] + b"\0"})


def test_values_that_are_not_finite_are_refused() -> None:
    broken = np.array([np.nan, *range(5)], "<f4").tobytes()
    with pytest.raises(ConvertError, match="'plain' has values that are not finite"):
        read(manifest(), {**SHARDS, "a.bin": broken[:10], "b.bin": broken[10:] + bytes(4)})
    endless = SHARDS["c.bin"][:4] + np.array([np.inf, 1], "<f2").tobytes() + bytes(4)
    with pytest.raises(ConvertError, match="'half' has values that are not finite"):
        read(manifest(), {**SHARDS, "c.bin": endless})


def test_too_much_of_anything_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConvertError, match="a manifest of more than"):
        read_tfjs(b" " * (tfjs.MAX_MANIFEST + 1), SHARDS)
    monkeypatch.setattr(tfjs, "MAX_BYTES", 30)
    with pytest.raises(ConvertError, match="the manifest's weights take more than 30 bytes"):
        read(manifest())
    monkeypatch.setattr(tfjs, "MAX_BYTES", 20)
    with pytest.raises(ConvertError, match="shards of more than 20 bytes"):
        read(manifest())
    monkeypatch.undo()
    many = [{"name": str(i), "shape": [1], "dtype": "int32"} for i in range(10_001)]
    with pytest.raises(ConvertError, match="more than 10000 weights"):
        read(change([0], "weights", many)())


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6))
def test_a_manifest_with_flipped_bytes_is_read_or_refused(flips: list[tuple[int, int]]) -> None:
    broken = bytearray(json.dumps(manifest()).encode())
    for place, mask in flips:
        broken[place % len(broken)] ^= mask
    with suppress(ConvertError):
        read_tfjs(bytes(broken), SHARDS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([[0], FIRST, SECOND, [*SECOND, "quantization"]]), st.data(), JSON)
def test_anything_in_the_place_of_anything_is_read_or_refused(
    place: list[Any], data: st.DataObject, value: Any
) -> None:
    described: Any = manifest()
    at = described
    for step in place:
        at = at[step]
    at[data.draw(st.sampled_from(sorted(at)))] = value
    with suppress(ConvertError):
        read(described)


# --- the network over such weights ----------------------------------------------------------------


def shapes() -> dict[str, tuple[int, ...]]:
    """The weights of the published network, as its manifest has them."""
    result: dict[str, tuple[int, ...]] = {}
    pairs = {
        "entry_flow/reduction_block_0": (32, 64, 2),
        "entry_flow/reduction_block_1": (64, 128, 2),
        "middle_flow/main_block_0": (128, 128, 3),
        "middle_flow/main_block_1": (128, 128, 3),
        "exit_flow/reduction_block": (128, 256, 2),
    }
    result["entry_flow/conv_in/filters"] = (3, 3, 3, 32)
    result["entry_flow/conv_in/bias"] = (32,)
    for block, (before, channels, count) in pairs.items():
        for i in range(count):
            inside = before if i == 0 else channels
            separable(result, f"{block}/separable_conv{i}", inside, channels)
        if "reduction" in block:
            result[f"{block}/expansion_conv/filters"] = (1, 1, before, channels)
            result[f"{block}/expansion_conv/bias"] = (channels,)
    separable(result, "exit_flow/separable_conv", 256, 512)
    for head, values in (("age", 1), ("gender", 2)):
        result[f"fc/{head}/weights"] = (512, values)
        result[f"fc/{head}/bias"] = (values,)
    return result


def separable(result: dict[str, tuple[int, ...]], at: str, before: int, channels: int) -> None:
    result[f"{at}/depthwise_filter"] = (3, 3, before, 1)
    result[f"{at}/pointwise_filter"] = (1, 1, before, channels)
    result[f"{at}/bias"] = (channels,)


@pytest.fixture(scope="module")
def weights() -> dict[str, Weight]:
    """Seeded numbers in levels, biases as they are."""
    rng = np.random.default_rng(11)
    made = {}
    for name, shape in shapes().items():
        if name.endswith("bias"):
            made[name] = Weight(rng.normal(0, 0.1, shape).astype(np.float32))
            continue
        reach = 2 / math.sqrt(math.prod(shape[:-1]) if shape[-1] > 1 else 9)
        levels = Levels(reach / 255, -reach / 255 * 131, "|u1")
        made[name] = Weight(levels.values(rng.integers(0, 256, shape).astype(np.uint8)), levels)
    return made


def as_onnx(weights: dict[str, Weight]) -> bytes:
    form = Form((SIDE, SIDE, 3), (OUTPUT,))
    return to_bytes(emit(simplify(specialise(tinyxception(weights)), form.picture), form))


def faces() -> Array:
    return np.random.default_rng(2).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)


def test_the_converted_network_is_its_own_operators_and_keeps_the_levels(
    weights: dict[str, Weight],
) -> None:
    batch = faces()
    (expected,) = run(tinyxception(weights), {INPUT: batch})
    assert expected.shape == (2, 3)
    assert expected[:, 1:].sum(axis=1) == pytest.approx(1, abs=1e-6)
    data = as_onnx(weights)
    (result,) = run_onnx(data, np.ascontiguousarray(batch.transpose(0, 3, 1, 2)), [OUTPUT])
    assert np.abs(result - expected).max() < 1e-4
    kept = [t for t in onnx.load_model_from_string(data).graph.initializer if t.data_type == 2]
    levelled = [weight for weight in weights.values() if weight.levels is not None]
    assert len(kept) == len(levelled)
    assert sum(math.prod(t.dims) for t in kept) == sum(w.values.size for w in levelled)


def test_weights_without_levels_are_kept_as_float32(weights: dict[str, Weight]) -> None:
    data = as_onnx({name: Weight(weight.values) for name, weight in weights.items()})
    kinds = {tensor.data_type for tensor in onnx.load_model_from_string(data).graph.initializer}
    assert onnx.TensorProto.UINT8 not in kinds
    batch = np.ascontiguousarray(faces().transpose(0, 3, 1, 2))
    (first,), (other,) = (run_onnx(made, batch, [OUTPUT]) for made in (data, as_onnx(weights)))
    assert np.abs(first - other).max() < 1e-4


def test_weights_of_another_network_are_refused(weights: dict[str, Weight]) -> None:
    for name in ("entry_flow/conv_in/filters", "fc/gender/bias"):
        left = {key: weight for key, weight in weights.items() if key != name}
        with pytest.raises(ConvertError, match=f"the weight '{name}' is missing"):
            tinyxception(left)
        with pytest.raises(ConvertError, match=f"'{name}' is float32 .* not float32"):
            tinyxception({**weights, name: Weight(weights[name].values[..., :1, None])})
        with pytest.raises(ConvertError, match=f"'{name}' is int32"):
            tinyxception({**weights, name: Weight(weights[name].values.astype(np.int32))})
    with pytest.raises(ConvertError, match="'more' belongs to no layer"):
        tinyxception({**weights, "more": Weight(np.zeros(1, np.float32))})
