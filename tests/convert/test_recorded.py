"""Conversions against what TensorFlow and its Lite interpreter gave; no framework is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compreface_convert.emit import Form, emit, to_bytes
from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import run, specialise
from compreface_convert.graph import Graph
from compreface_convert.graphdef import read_graphdef
from compreface_convert.proof import lowest_cosine, run_onnx
from compreface_convert.simplify import simplify
from compreface_convert.tflite import read_tflite
from compreface_engine.core.types import Crops
from compreface_engine.models.inputs import InputSpec
from tests.shared import ROOT, needs_shared, shared
from tools import embedded

RECORDINGS = Path(__file__).parent / "recordings"
MODELS = ROOT / "engine" / "compreface_engine" / "embedded_models"


def recorded(name: str) -> dict[str, Any]:
    with np.load(RECORDINGS / name, allow_pickle=False) as arrays:
        return dict(arrays)


def sandberg() -> Graph:
    data = (RECORDINGS / "sandberg_small.pb").read_bytes()
    return read_graphdef(data, inputs=("input",), outputs=("embeddings",))


def as_onnx(graph: Graph, side: int) -> bytes:
    form = Form((side, side, 3), ("embeddings",))
    return to_bytes(emit(simplify(specialise(graph), form.picture), form))


def nchw(batch: Any) -> Any:
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))


def operators(data: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_model_from_string(data).graph.node}


def test_a_graph_with_training_switches_gives_what_tensorflow_gives() -> None:
    arrays = recorded("sandberg_small.npz")
    (found,) = run_onnx(as_onnx(sandberg(), 35), nchw(arrays["input_nhwc"]), ["embeddings"])
    assert np.abs(found - arrays["embeddings"]).max() < 1e-6


def test_the_numpy_judge_agrees_with_tensorflow() -> None:
    arrays = recorded("sandberg_small.npz")
    (found,) = run(sandberg(), {"input": arrays["input_nhwc"]})
    assert np.abs(found - arrays["embeddings"]).max() < 1e-6


def test_a_converted_graph_keeps_no_batch_norm_no_transpose_and_no_switch() -> None:
    found = operators(as_onnx(sandberg(), 35))
    assert found <= {
        *("Conv", "Relu", "MaxPool", "AveragePool", "Concat", "Add", "Flatten", "Gemm"),
        *("Mul", "ReduceSum", "Max", "Sqrt", "Reciprocal"),
    }


def test_the_batch_of_a_converted_graph_is_free() -> None:
    model = as_onnx(sandberg(), 35)
    batch = nchw(recorded("sandberg_small.npz")["input_nhwc"])
    (together,) = run_onnx(model, batch, ["embeddings"])
    alone = [run_onnx(model, batch[i : i + 1], ["embeddings"])[0] for i in range(len(batch))]
    assert np.abs(together - np.concatenate(alone)).max() < 1e-6


@pytest.mark.parametrize("name", ["small", "small_halves"])
def test_a_small_tflite_file_gives_what_its_interpreter_gives(name: str) -> None:
    arrays = recorded(f"{name}.npz")
    graph = read_tflite((RECORDINGS / f"{name}.tflite").read_bytes())
    (judged,) = run(graph, {next(iter(graph.inputs)): arrays["input_nhwc"]})
    (found,) = run_onnx(as_onnx(graph, 24), nchw(arrays["input_nhwc"]), ["embeddings"])
    assert np.abs(judged - arrays["output"]).max() < 1e-6
    assert np.abs(found - arrays["output"]).max() < 1e-6


def test_weights_in_float16_are_widened_and_their_operators_gone() -> None:
    data = (RECORDINGS / "small_halves.tflite").read_bytes()
    assert len(data) < 0.75 * len((RECORDINGS / "small.tflite").read_bytes())
    graph = read_tflite(data)
    assert "Dequantize" not in {node.op for node in graph.nodes.values()}
    named = {need for node in graph.nodes.values() for need in node.inputs}
    kinds = {value.dtype.str for name, value in graph.constants.items() if name in named}
    assert kinds == {"<f4", "<i4"}


def test_a_graph_frozen_by_tensorflow_2_gives_what_tensorflow_gives() -> None:
    arrays = recorded("small_frozen.npz")
    graph = read_graphdef((RECORDINGS / "small_frozen.pb").read_bytes())
    assert (list(graph.inputs), graph.outputs) == (["x"], ("Identity",))
    (judged,) = run(graph, {"x": arrays["input_nhwc"]})
    (found,) = run_onnx(as_onnx(graph, 24), nchw(arrays["input_nhwc"]), ["embeddings"])
    assert np.abs(judged - arrays["output"]).max() < 1e-6
    assert np.abs(found - arrays["output"]).max() < 1e-6


@pytest.mark.parametrize(
    ("net", "outputs"),
    [
        ("pnet", ("box", "prob")),
        ("rnet", ("box", "prob")),
        ("onet", ("box", "landmark", "prob")),
    ],
)
def test_the_shipped_mtcnn_gives_what_the_tflite_interpreter_gave(
    net: str, outputs: tuple[str, ...]
) -> None:
    arrays = recorded("tflite_interpreter.npz")
    data = (MODELS / f"mtcnn_{net}.onnx").read_bytes()
    found = run_onnx(data, arrays[f"{net}_input"], outputs)
    for name, value in zip(outputs, found, strict=True):
        assert np.abs(value - arrays[f"{net}_{name}"]).max() < 1e-5, name


def test_the_shipped_mobilefacenet_gives_what_the_tflite_interpreter_gave() -> None:
    spec = InputSpec(112, mean=(127.5,) * 3, scale=(128.0,) * 3)
    batch = spec.tensor(recorded("crops.npz")["aligned_u8"])
    data = (MODELS / "mobilefacenet192_fp16w.onnx").read_bytes()
    (found,) = run_onnx(data, batch, ["embedding"])
    expected = recorded("tflite_interpreter.npz")["mobilefacenet"]
    assert np.abs(found - expected).max() < 0.1
    assert lowest_cosine(found, expected) > 0.99999


def test_pnet_takes_any_size_and_any_batch() -> None:
    data = (MODELS / "mtcnn_pnet.onnx").read_bytes()
    batch = np.random.default_rng(1).uniform(-1, 1, (2, 3, 61, 48)).astype(np.float32)
    box, prob = run_onnx(data, batch, ["box", "prob"])
    assert box.shape == (2, 4, 26, 19)
    assert np.allclose(prob.sum(axis=1), 1, atol=1e-6)


def test_shipped_files_are_fixed_in_version_and_carry_no_prelu_operator_on_pictures() -> None:
    for source in embedded.SOURCES:
        model = onnx.load(str(MODELS / source.target))
        assert (model.ir_version, model.opset_import[0].version) == (8, 17)
        counts = [node.op_type for node in model.graph.node].count("PRelu")
        # The one behind a dense layer is small; rewriting it brings nothing.
        assert counts == (source.target in ("mtcnn_rnet.onnx", "mtcnn_onet.onnx"))
        assert [value.name for value in model.graph.output] == list(source.form.outputs)


def test_another_file_than_the_one_in_the_package_is_refused() -> None:
    data = (RECORDINGS / "small.tflite").read_bytes()
    with pytest.raises(ConvertError, match=r"pnet\.tflite has the SHA-256"):
        embedded.convert_one(embedded.SOURCES[0], [data])


TFLITE = [source for source in embedded.SOURCES if len(source.files) == 1]


@needs_shared
@pytest.mark.parametrize("source", TFLITE, ids=lambda source: source.target)
def test_a_rebuild_gives_the_shipped_bytes_and_the_recorded_numbers(
    source: embedded.Source,
) -> None:
    ((file, _),) = source.files
    made = embedded.convert_one(source, [shared("models", "embedded", file).read_bytes()])
    assert made.data == (MODELS / source.target).read_bytes()
    references = [
        shared("models", folder, "reference.npz") for folder in ("agegender_faceapi", "embedded")
    ]
    difference = embedded.prove_reference(source, made.data, references)
    assert difference is not None
    assert difference <= source.tolerance
    assert embedded.prove_reference(source, made.data, references[:1]) is None


@needs_shared
def test_the_shipped_age_and_gender_are_face_apis() -> None:
    """The recorded answers are those of face-api itself, in node."""
    (source,) = (source for source in embedded.SOURCES if source not in TFLITE)
    data = (MODELS / source.target).read_bytes()
    reference = shared("models", "agegender_faceapi", "reference.npz")
    difference = embedded.prove_reference(source, data, [reference])
    assert difference is not None
    assert difference <= 2e-5  # years
    given = shared("models", "agegender_faceapi", "age_gender.onnx").read_bytes()
    rng = np.random.default_rng(3)
    batch = rng.uniform(0, 255, (8, 3, 112, 112)).astype(np.float32)
    age, gender = run_onnx(given, batch, ["age", "gender"])
    (found,) = run_onnx(data, batch, source.outputs)
    assert np.abs(found[:, :1] - age).max() <= 5e-5
    assert np.abs(found[:, 1:] - gender).max() <= 2e-6


def test_the_shipped_age_and_gender_keep_their_weights_in_8_bits() -> None:
    path = MODELS / "agegender_u8w.onnx"
    model = onnx.load(str(path))
    kinds = {node.op_type for node in model.graph.node}
    assert "DequantizeLinear" not in kinds
    assert {"Cast", "Sub", "Mul"} <= kinds
    wide = [t for t in model.graph.initializer if np.prod(t.dims) > 512]
    assert {tensor.data_type for tensor in wide} == {onnx.TensorProto.UINT8}
    assert path.stat().st_size < 440_000


@needs_shared
@pytest.mark.slow
def test_facenet_gives_what_tensorflow_gave() -> None:
    data = shared("models", "facenet", "20180402-114759.pb").read_bytes()
    graph = read_graphdef(data, inputs=("input",), outputs=("embeddings",))
    model = as_onnx(graph, 160)
    crops: Crops = recorded("crops.npz")["facenet_u8"]
    noise = np.random.default_rng(5).standard_normal((1, 160, 160, 3)).astype(np.float32)
    arrays = recorded("facenet_tensorflow.npz")
    for batch, name in ((InputSpec(160).tensor(crops), "crops"), (nchw(noise), "noise")):
        (found,) = run_onnx(model, batch, ["embeddings"])
        assert np.abs(found - arrays[name]).max() < 1e-5
    assert "BatchNormalization" not in operators(model)
