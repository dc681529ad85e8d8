"""Small ONNX networks with seeded weights and the inputs and outputs of the real ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 13
PLAIN_INPUT: Mapping[str, Any] = {"layout": "nchw", "colour": "rgb", "mean": 0, "scale": 1}


@dataclass(frozen=True)
class Network:
    """What a manifest says of a network, and how to make its file."""

    role: str
    build: Callable[[], bytes]
    inputs: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, name: str) -> None:
        """A prepared model's folder."""
        place = folder / name
        place.mkdir(parents=True)
        data = self.build()
        (place / "model.onnx").write_bytes(data)
        described = {
            "schema": 1,
            "name": name,
            "role": self.role,
            "file": "model.onnx",
            "sha256": hashlib.sha256(data).hexdigest(),
            "input": {**PLAIN_INPUT, **self.inputs},
            "outputs": [output.name for output in onnx.load_from_string(data).graph.output],
            **self.more,
        }
        (place / "model.json").write_text(json.dumps(described))


class _Graph:
    """A graph under construction; weights come from one seeded generator."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(7)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"value{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any) -> str:
        name = f"weight{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def random(self, *shape: int, scale: float) -> str:
        return self.constant((self._rng.standard_normal(shape) * scale).astype(np.float32))

    def rename(self, old: str, new: str) -> str:
        self._nodes.append(helper.make_node("Identity", [old], [new]))
        return new

    def finish(self, shape: Sequence[str | int], outputs: Mapping[str, int]) -> bytes:
        """`outputs`: rank by name."""
        infos = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
            for name, rank in outputs.items()
        ]
        given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
        graph = helper.make_graph(self._nodes, "seeded", [given], infos, self._weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
        made.ir_version = 8
        onnx.checker.check_model(made)
        data: bytes = made.SerializeToString()
        return data


def rows(size: int, count: int, *, scale: float, softmax: bool = False) -> bytes:
    """[N, 3, size, size] to [N, count]; `scale` is about what one input value counts for."""
    graph = _Graph()
    step = size // 4
    pooled = graph.add("AveragePool", "input", kernel_shape=[step] * 2, strides=[step] * 2)
    flat = graph.add("Flatten", pooled)
    values = 3 * (size // step) ** 2
    output = graph.add("Gemm", flat, graph.random(values, count, scale=scale))
    if softmax:
        output = graph.add("Softmax", output, axis=1)
    graph.rename(output, "rows")
    return graph.finish(["N", 3, size, size], {"rows": 2})


def retinaface() -> bytes:
    """Nine maps for strides 32, 16, 8, sides rounded up."""
    graph = _Graph()
    outputs = {}
    for stride in (32, 16, 8):
        cells = graph.add(
            "AveragePool", "input", kernel_shape=[stride] * 2, strides=[stride] * 2, ceil_mode=1
        )
        for kind, channels, scale in (("class", 4, 0.02), ("box", 8, 1e-3), ("points", 20, 1e-3)):
            weights = graph.random(channels, 3, 1, 1, scale=scale)
            output = graph.add("Conv", cells, weights)
            if kind == "class":
                output = graph.add("Sigmoid", output)
            outputs[graph.rename(output, f"{kind}{stride}")] = 4
    return graph.finish(["N", 3, "H", "W"], outputs)


def scrfd() -> bytes:
    """Nine outputs without a batch axis, two rows a cell."""
    kinds = (("score", 1, 1.5, "Sigmoid"), ("box", 4, 1.0, "Softplus"), ("points", 10, 1.0, ""))
    return _by_rows(kinds, anchors=2, batch_axis=False)


def yunet() -> bytes:
    """Twelve outputs with a batch axis, one row a cell."""
    kinds = (
        *(("cls", 1, 0.02, "Sigmoid"), ("obj", 1, 0.02, "Sigmoid")),
        *(("box", 4, 1e-3, ""), ("points", 10, 1e-3, "")),
    )
    return _by_rows(kinds, anchors=1, batch_axis=True)


def _by_rows(
    kinds: Sequence[tuple[str, int, float, str]], *, anchors: int, batch_axis: bool
) -> bytes:
    graph = _Graph()
    outputs = {}
    for kind, values, scale, end in kinds:
        for stride in (8, 16, 32):
            cells = graph.add(
                "AveragePool", "input", kernel_shape=[stride] * 2, strides=[stride] * 2
            )
            weights = graph.random(anchors * values, 3, 1, 1, scale=scale)
            last = graph.add("Transpose", graph.add("Conv", cells, weights), perm=[0, 2, 3, 1])
            shape = [0, -1, values] if batch_axis else [-1, values]
            output = graph.add("Reshape", last, graph.constant(np.array(shape, np.int64)))
            if end:
                output = graph.add(end, output)
            outputs[graph.rename(output, f"{kind}_{stride}")] = len(shape)
    return graph.finish(["N", 3, "H", "W"], outputs)
