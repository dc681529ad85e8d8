"""Conversions against recorded answers of TensorFlow and its Lite interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compreface_convert.emit import Form, emit, to_bytes
from compreface_convert.evaluate import run, specialise
from compreface_convert.graph import Graph
from compreface_convert.graphdef import read_graphdef
from compreface_convert.proof import run_onnx
from compreface_convert.simplify import simplify
from compreface_convert.tflite import read_tflite
from compreface_engine.core.types import Crops
from compreface_engine.models.inputs import InputSpec
from tests.shared import needs_shared, shared

RECORDINGS = Path(__file__).parent / "recordings"


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
    (result,) = run_onnx(as_onnx(sandberg(), 35), nchw(arrays["input_nhwc"]), ["embeddings"])
    assert np.abs(result - arrays["embeddings"]).max() < 1e-6


def test_the_numpy_judge_agrees_with_tensorflow() -> None:
    arrays = recorded("sandberg_small.npz")
    (result,) = run(sandberg(), {"input": arrays["input_nhwc"]})
    assert np.abs(result - arrays["embeddings"]).max() < 1e-6


def test_a_converted_graph_keeps_no_batch_norm_no_transpose_and_no_switch() -> None:
    result = operators(as_onnx(sandberg(), 35))
    assert result <= {
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
    (result,) = run_onnx(as_onnx(graph, 24), nchw(arrays["input_nhwc"]), ["embeddings"])
    assert np.abs(judged - arrays["output"]).max() < 1e-6
    assert np.abs(result - arrays["output"]).max() < 1e-6


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
    (result,) = run_onnx(as_onnx(graph, 24), nchw(arrays["input_nhwc"]), ["embeddings"])
    assert np.abs(judged - arrays["output"]).max() < 1e-6
    assert np.abs(result - arrays["output"]).max() < 1e-6


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
        (result,) = run_onnx(model, batch, ["embeddings"])
        assert np.abs(result - arrays[name]).max() < 1e-5
    assert "BatchNormalization" not in operators(model)
