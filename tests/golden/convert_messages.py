"""The refusals of the converter that a user meets; the readers test those of damaged bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import ModelProto, TensorProto

from compreface_convert.prepare import prepare
from tests.convert import tensor_tables as tables
from tests.convert import torch_files
from tests.convert.mxnet_small import params
from tests.convert.test_hostile import node, placeholder, tensor
from tests.convert.test_prepare import network
from tests.convert.test_roles import HEADS, detector, mxnet
from tests.shared import ROOT

Case = Callable[[Path], object]

RECORDINGS = ROOT / "tests" / "convert" / "recordings"
CHECKPOINT: Final = {"format": "tensorflow-checkpoint", "network": "inception_v3_age"}
GRAPH: Final = {"format": "tensorflow-graph"}
MXNET: Final = {"format": "mxnet"}
PYTORCH: Final = {"format": "pytorch", "network": "inception_resnet_v1"}
DETECTOR: Final = {"role": "detector", "input": {"size": None, "mean": 0, "scale": 1}}


def _prepared(change: Mapping[str, Any], **files: bytes | ModelProto) -> Case:
    """Prepare a calculator of 32 x 32 from these files; an entry with `change`."""

    def run(folder: Path) -> object:
        entry: dict[str, Any] = {
            "name": "mine",
            "format": "onnx",
            "input": {"size": 32, "mean": 127.5, "scale": 128},
            "align": "arcface5",
            "similarity": [1.1, 6.0],
            "files": [{"path": name} for name in files],
        }
        (folder / "entry.json").write_text(json.dumps({**entry, **change}))
        for name, data in files.items():
            raw = data if isinstance(data, bytes) else data.SerializeToString()
            (folder / name).write_bytes(raw)
        paths = [folder / name for name in files]
        return prepare(folder / "entry.json", paths, folder / "models", None, lambda line: None)

    return run


def _entry(**change: Any) -> Case:
    return _prepared(change, **{"mine.onnx": network()})


def _graph(*nodes: bytes) -> Case:
    return _prepared(GRAPH, **{"mine.pb": b"".join(nodes)})


def _elsewhere() -> ModelProto:
    model = network()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model


def _not_finite() -> ModelProto:
    model = network()
    model.graph.initializer[0].raw_data = np.full((8, 3, 3, 3), np.inf, "<f4").tobytes()
    return model


CASES: Final[Mapping[str, Case]] = {
    "the name of an entry": _entry(name="a.b"),
    "an unknown role": _entry(role="listener"),
    "an unknown format": _entry(format="caffe"),
    "the format of a detector": _entry(role="detector", format="tflite"),
    "an unknown alignment": _entry(align="somehow"),
    "similarity coefficients": _entry(similarity=[1]),
    "too few files": _entry(format="mxnet"),
    "a file without a path": _entry(files=[{"sha256": None}]),
    "the size of the input": _entry(input={"size": 0}),
    "a mean without a scale": _entry(input={"size": 32, "mean": 1}),
    "an unknown architecture": _prepared(
        {"format": "mxnet-gluon", "network": "vgg"}, **{"mine.params": params({})}
    ),
    "another file than the entry's": _entry(files=[{"path": "mine.onnx", "sha256": "0" * 64}]),
    "not an ONNX file": _prepared({}, **{"mine.onnx": b"no"}),
    "ONNX weights in another file": _prepared({}, **{"mine.onnx": _elsewhere()}),
    "ONNX with two outputs": _prepared({}, **{"mine.onnx": network(extra_output=True)}),
    "ONNX of another size": _entry(input={"size": 112, "mean": 0, "scale": 1}),
    "ONNX of another type": _prepared({}, **{"mine.onnx": network(output=TensorProto.FLOAT16)}),
    "ONNX of a fixed size for a detector": _prepared(
        DETECTOR, **{"mine.onnx": detector(any_size=False)}
    ),
    "values that are not finite": _prepared({}, **{"mine.onnx": _not_finite()}),
    "not a TensorFlow graph": _prepared(GRAPH, **{"mine.pb": b"no"}),
    "a graph without inputs": _graph(node("out", "Const", value=tensor([1]))),
    "a graph with two inputs": _graph(placeholder("a"), placeholder("b"), node("o", "Add", "a")),
    "an unknown operator": _graph(placeholder("input"), node("embeddings", "Erf", "input")),
    "a constant that is too large": _graph(
        placeholder("input"),
        node("embeddings", "Const", value=tensor([1 << 27, 2], struct.pack("<f", 1))),
    ),
    "not a TFLite file": _prepared({"format": "tflite"}, **{"mine.tflite": b"no"}),
    "a checkpoint of the V1 format": _prepared(CHECKPOINT, **{"checkpoint-1": b""}),
    "several checkpoints": _prepared(CHECKPOINT, **{"a.index": b"", "b.index": b""}),
    "a compressed checkpoint": _prepared(
        CHECKPOINT, **{"a.index": tables.table_of(tables.block(b"", kind=1))}
    ),
    "a checkpoint of another network": _prepared(
        CHECKPOINT, **{"a.index": tables.table({b"": tables.header()})}
    ),
    "a SavedModel without its graph": _prepared(
        {"format": "tensorflow-saved-model"}, **{"variables.index": b""}
    ),
    "an MXNet network without a weight": _prepared(
        MXNET | DETECTOR, **mxnet(HEADS, ["prob"], without="n_beta")
    ),
    "two MXNet files of weights": _prepared(MXNET, **{"a.params": b"", "b.params": b""}),
    "not an MXNet file of weights": _prepared(
        MXNET, **mxnet(HEADS, ["prob"]) | {"m-0000.params": b"no"}
    ),
    "not a PyTorch file": _prepared(PYTORCH, **{"mine.pt": b"no"}),
    "a PyTorch file that calls for a command": _prepared(
        PYTORCH, **{"mine.pt": torch_files.zipped(b"\x80\x02cposix\nsystem\n.", {})}
    ),
    "a PyTorch file of another network": _prepared(PYTORCH, **{"mine.pt": torch_files.saved({})}),
    "a compressed PyTorch file": _prepared(PYTORCH, **{"mine.pt": torch_files.compressed()}),
    "PyTorch in another layout": _prepared(
        PYTORCH | {"input": {"size": 160, "layout": "nhwc"}}, **{"mine.pt": torch_files.saved({})}
    ),
    "MXNet in another layout": _prepared(
        MXNET | {"input": {"size": 32, "layout": "nhwc", "mean": 0, "scale": 1}},
        **mxnet(HEADS, ["prob"]),
    ),
}
