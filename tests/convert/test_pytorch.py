"""State dicts of PyTorch in both file formats, and FaceNet in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import run
from compreface_convert.graphdef import read_graphdef
from compreface_convert.prepare import prepare
from compreface_convert.proof import run_onnx
from compreface_convert.pytorch import read_pytorch, read_state_dict
from compreface_engine.models.inputs import InputSpec
from tests.convert import torch_files as files
from tests.convert.facenet_names import state_dict
from tests.convert.test_recorded import RECORDINGS, as_onnx, recorded
from tests.frameworks import torch_weights
from tests.shared import needs_shared, shared

RNG = np.random.default_rng(1)
ARRAYS: dict[str, Any] = {
    "a.weight": RNG.random((4, 3, 2, 2), np.float32),
    "a.double": RNG.random(3),
    "a.half": RNG.random(5).astype(np.float16),
    "a.count": np.array(7, np.int64),
    "a.empty": np.zeros((0, 3), np.float32),
    **{f"a.{kind}": np.arange(3).astype(kind) for kind in ("i4", "i2", "i1", "u1", "?")},
}
FORMATS = pytest.mark.parametrize("old", [False, True], ids=["zip", "older"])


@FORMATS
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_has_its_arrays(old: bool, wrapped: bool) -> None:
    result = read_state_dict(files.saved(ARRAYS, old=old, wrapped=wrapped))
    assert result.keys() == ARRAYS.keys()
    for name, expected in ARRAYS.items():
        assert result[name].dtype == expected.dtype or not expected.size
        assert np.array_equal(result[name], expected), name


def read(value: bytes, *storages: Any, old: bool = False) -> dict[str, Any]:
    """What a file with this value has; storages are arrays named 0, 1, ..."""
    arrays = [np.asarray(array) for array in storages]
    pickle = files.PROTO + value + files.STOP
    if old:
        made = {str(i): (array.size, array.tobytes()) for i, array in enumerate(arrays)}
        return read_state_dict(files.stream(pickle, made))
    return read_state_dict(
        files.zipped(pickle, {str(i): array.tobytes() for i, array in enumerate(arrays)})
    )


@FORMATS
def test_tensors_may_share_a_storage_and_lie_in_it_in_any_order(old: bool) -> None:
    values = np.arange(12, dtype=np.float32)
    memory = files.storage("FloatStorage", "0", 12, old=old)
    items = {
        "whole": files.tensor(memory, (3, 4)),
        "turned": files.tensor(memory, (4, 3), (1, 4)),
        "tail": files.tensor(memory, (2, 2), (2, 1), offset=8),
        "repeated": files.tensor(memory, (3, 4), (0, 1)),
        # A dimension of one value may have any stride.
        "single": files.tensor(memory, (1, 2), (1 << 62, 1)),
    }
    result = read(files.ordered_dict(items), values, old=old)
    table = values.reshape(3, 4)
    assert np.array_equal(result["whole"], table)
    assert np.array_equal(result["turned"], table.T)
    assert result["tail"].tolist() == [[8, 9], [10, 11]]
    assert np.array_equal(result["repeated"], np.stack([table[0]] * 3))
    assert result["single"].tolist() == [[0, 1]]


def test_bfloat16_is_widened_exactly() -> None:
    exact = np.array([0, 1, -2.5, 3.140625, np.inf], np.float32)
    halves = (exact.view("<u4") >> 16).astype("<u2")
    memory = files.storage("BFloat16Storage", "0", 5)
    result = read(files.ordered_dict({"x": files.tensor(memory, (5,))}), halves)
    assert result["x"].dtype == np.float32
    assert np.array_equal(result["x"], exact)


def test_a_parameter_is_its_tensor() -> None:
    inside = files.tensor(files.storage("FloatStorage", "0", 2), (2,))
    arguments = files.MARK + inside + b"\x88" + files.ordered_dict() + files.TUPLE
    value = files.name("torch._utils", "_rebuild_parameter") + arguments + files.REDUCE
    assert read(b"}" + files.text("p") + value + b"s", np.ones(2, "<f4"))["p"].tolist() == [1, 1]


def test_what_python_2_wrote_is_read() -> None:
    memory = files.storage("FloatStorage", "0", 2)
    pair = b"](" + b"U\x01x" + files.tensor(memory, (2,)) + b"e"
    value = files.name("collections", "OrderedDict") + b"](" + pair + b"e\x85R"
    assert read(value, np.ones(2, "<f4"))["x"].tolist() == [1, 1]


@pytest.fixture(scope="module")
def facenet() -> dict[str, Any]:
    """FaceNet's state dict with the numbers of the frozen graph."""
    data = shared("models", "facenet", "20180402-114759.pb").read_bytes()
    return state_dict(read_graphdef(data, inputs=("input",), outputs=("embeddings",)).constants)


@needs_shared
@pytest.mark.slow
@FORMATS
def test_facenet_gives_what_its_frozen_graph_gives(facenet: dict[str, Any], old: bool) -> None:
    data = shared("models", "facenet", "20180402-114759.pb").read_bytes()
    graph = read_graphdef(data, inputs=("input",), outputs=("embeddings",))
    crops = InputSpec(160).tensor(recorded("crops.npz")["facenet_u8"])
    (expected,) = run_onnx(as_onnx(graph, 160), crops, ["embeddings"])
    made = read_pytorch(files.saved(facenet, old=old), "inception_resnet_v1")
    (result,) = run_onnx(as_onnx(made, 160), crops, ["embeddings"])
    # 4.5e-8 with AVX2: the mean over the places is another operator, the rest is the same.
    assert np.abs(result - expected).max() < 1e-6
    assert np.abs(result - recorded("facenet_tensorflow.npz")["crops"]).max() < 1e-6


@pytest.fixture(scope="module")
def seeded() -> dict[str, Any]:
    """FaceNet's state dict under the names that PyTorch gave, with seeded values."""
    arrays = recorded("torch_facenet.npz")
    shapes = zip(arrays["names"].tolist(), arrays["shapes"].tolist(), strict=True)
    return {name: torch_weights.values(name, [n for n in shape if n]) for name, shape in shapes}


def test_seeded_facenet_gives_what_pytorch_gave(seeded: dict[str, Any]) -> None:
    """The judge is timesler's own module in PyTorch."""
    graph = read_pytorch(files.saved(seeded), "inception_resnet_v1")
    older = read_pytorch(files.saved(seeded, old=True), "inception_resnet_v1").constants
    assert all(np.array_equal(older[name], value) for name, value in graph.constants.items())
    batch = torch_weights.pictures()
    (result,) = run(graph, {"input": batch.transpose(0, 2, 3, 1)})
    assert np.abs(result - recorded("torch_facenet.npz")["embeddings"]).max() < 1e-6


@pytest.mark.slow
def test_embeddings_of_any_length_become_unit_length(seeded: dict[str, Any]) -> None:
    last = {name: seeded[name] * np.float32(1e-6) for name in ("last_bn.weight", "last_bn.bias")}
    graph = read_pytorch(files.saved({**seeded, **last}), "inception_resnet_v1")
    (result,) = run(graph, {"input": torch_weights.pictures().transpose(0, 2, 3, 1)})
    assert np.abs(result - recorded("torch_facenet.npz")["embeddings"]).max() < 1e-6


@pytest.mark.slow
def test_a_state_dict_is_prepared_like_any_model(seeded: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "face.pt").write_bytes(files.saved(seeded, old=True))
    entry = {
        "name": "mine",
        "format": "pytorch",
        "network": "inception_resnet_v1",
        "files": [{"path": "face.pt", "sha256": None}],
        "input": {"size": 160, "mean": None, "scale": None},
        "align": "facenet-margin",
        "similarity": [1.1817961, 5.291995557],
    }
    (tmp_path / "entry.json").write_text(json.dumps(entry), "utf-8")
    sources = [tmp_path / "face.pt"]
    made = prepare(tmp_path / "entry.json", sources, tmp_path / "out", None, lambda line: None)
    assert (made["dimension"], made["outputs"]) == (512, ["embeddings"])
    assert made["source"]["network"] == "inception_resnet_v1"
    assert made["proof"]["max_abs_difference"] < 1e-6
    assert (tmp_path / "out" / "mine" / "model.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_seeded_facenet_is_converted_from_every_precision(
    seeded: dict[str, Any], kind: type[Any]
) -> None:
    weights = {name: array.astype(kind) for name, array in seeded.items()}
    graph = read_pytorch(files.saved(weights), "inception_resnet_v1")
    (result,) = run_onnx(as_onnx(graph, 160), torch_weights.pictures(), ["embeddings"])
    expected = recorded("torch_facenet.npz")["embeddings"]
    assert np.abs(result - expected).max() < (1e-6 if kind is np.float64 else 1e-2)


@pytest.mark.parametrize("name", ["module", "odd", "training", "parameters"])
@FORMATS
def test_what_pytorch_wrote_has_its_values(name: str, old: bool) -> None:
    result = read_state_dict((RECORDINGS / f"torch_{name}{'_old' * old}.pt").read_bytes())
    arrays = recorded("torch_small.npz").items()
    expected = {key.partition("/")[2]: a for key, a in arrays if key.startswith(f"{name}/")}
    assert result.keys() == expected.keys()
    for key, array in expected.items():
        assert (result[key].dtype, result[key].shape) == (array.dtype, array.shape), key
        assert np.array_equal(result[key], array), key


def test_the_recordings_hold_what_makes_state_dicts_hard() -> None:
    result = read_state_dict((RECORDINGS / "torch_odd.pt").read_bytes())
    assert not result["turned"].flags.c_contiguous
    assert np.shares_memory(result["table"], result["turned"])
    assert np.shares_memory(result["table"], result["part"])


def test_a_state_dict_of_another_network_is_refused(seeded: dict[str, Any]) -> None:
    for change, words in (
        ({"block8.conv2d.bias": None}, "no tensor 'block8.conv2d.bias'"),
        ({"block9.conv2d.bias": np.ones(1, np.float32)}, "has not: block9.conv2d.bias"),
        ({"last_bn.weight": np.ones(511, np.float32)}, r"'last_bn.weight' is float32 \[511\]"),
        ({"last_bn.weight": np.ones(512, np.int32)}, "'last_bn.weight' is int32"),
    ):
        changed = {k: v for k, v in {**seeded, **change}.items() if v is not None}
        with pytest.raises(ConvertError, match=words):
            read_pytorch(files.saved(changed), "inception_resnet_v1")


def test_an_unknown_network_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConvertError, match="use inception_resnet_v1"):
        read_pytorch(files.saved({}), "vgg16")
