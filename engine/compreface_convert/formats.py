"""Converts a model's source files to ONNX candidates, by format; `verify` chooses among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from compreface_convert import gluon, mxnet_run, onnx_file
from compreface_convert.checkpoint import read_checkpoint
from compreface_convert.emit import Form, emit, to_bytes
from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import run, specialise
from compreface_convert.graph import Array, Graph
from compreface_convert.graphdef import read_graphdef
from compreface_convert.mxnet_emit import emit as emit_mxnet
from compreface_convert.mxnet_graph import Network
from compreface_convert.mxnet_params import read_params
from compreface_convert.mxnet_symbol import read_mxnet
from compreface_convert.proof import session
from compreface_convert.pytorch import read_pytorch
from compreface_convert.saved_model import read_saved_model
from compreface_convert.simplify import simplify
from compreface_convert.spec import ModelSpec, Source
from compreface_convert.tflite import read_tflite

_INPUTS: Final = ("input", "image_batch")  # FaceNet's published graphs
_OUTPUT: Final = "embeddings"
_TRIAL: Final = (96, 128)
"""Height and width that a network without a fixed size is traced with."""
_OTHER: Final = (128, 64)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ONNX file; `batch` is the fixed batch size, None if it is dynamic."""

    data: bytes
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """ONNX candidates, the best first, and the original as a function [N, 3, H, W] -> outputs."""

    candidates: tuple[Candidate, ...]
    original: Callable[[Array], list[Array]]
    outputs: tuple[str, ...]


def convert(spec: ModelSpec, sources: Sequence[Source]) -> Converted:
    """The entry's files as ONNX, not verified yet. Raises ConvertError."""
    if spec.format == "onnx":
        try:
            return _from_onnx(spec, sources[0].data())
        except UnicodeDecodeError as error:
            raise ConvertError(f"a name in the ONNX file is not UTF-8: {error}") from error
    if spec.format == "tflite":
        return _from_graph(spec, read_tflite(sources[0].data()))
    if spec.format == "tensorflow-graph":
        data = sources[0].data()
        return _from_graph(spec, read_graphdef(data, inputs=_INPUTS, outputs=(_OUTPUT,)))
    if spec.format == "tensorflow-checkpoint":
        files = {source.name: source.path for source in sources}
        return _from_graph(spec, read_checkpoint(files, spec.network or ""))
    if spec.format == "tensorflow-saved-model":
        return _from_graph(spec, read_saved_model({source.name: source.path for source in sources}))
    if spec.format == "pytorch":
        return _from_pytorch(spec, sources)
    if spec.format == "mxnet":
        return _from_mxnet(spec, _read_mxnet(spec, sources))
    network = gluon.build(spec.network or "", read_params(sources[0].data()))
    return _from_mxnet(spec, network)


def _from_graph(spec: ModelSpec, graph: Graph) -> Converted:
    name, shape = next(iter(graph.inputs.items()))
    size = spec.inputs.size
    if shape and (
        len(shape) != 4
        or any(
            side not in (None, want) for side, want in zip(shape[1:], (size, size, 3), strict=True)
        )
    ):
        raise ConvertError(f"the input '{name}' has the shape {list(shape)}, not {size}x{size}x3")
    if spec.role == "calculator" and len(graph.outputs) != 1:
        names = ", ".join(graph.outputs)[:300]
        raise ConvertError(
            f"the network has {len(graph.outputs)} outputs ({names}); a calculator has a single one"
        )
    outputs: tuple[str, ...] = (_OUTPUT,)
    # The TensorFlow runtime looks up the outputs of a frozen graph by the names of their nodes.
    if spec.role != "calculator" or spec.format == "tensorflow-graph":
        outputs = tuple(output.partition(":")[0] for output in graph.outputs)
    traced = simplify(specialise(graph), (size, size, 3))
    for output in traced.graph.outputs:
        if len(traced.shapes[output]) != 2:
            raise ConvertError(f"the output '{output}' is not a vector per picture")
    made = to_bytes(emit(traced, Form((size, size, 3), outputs)))

    def original(batch: Array) -> list[Array]:
        return run(graph, {name: np.ascontiguousarray(batch.transpose(0, 2, 3, 1))})

    return Converted((Candidate(made),), original, outputs)


def _from_pytorch(spec: ModelSpec, sources: Sequence[Source]) -> Converted:
    if spec.inputs.layout != "nchw":
        raise ConvertError("`input.layout` of a PyTorch network is nchw")
    return _from_graph(spec, read_pytorch(sources[0].data(), spec.network or ""))


def _read_mxnet(spec: ModelSpec, sources: Sequence[Source]) -> Network:
    symbol, weights = sorted(sources, key=lambda source: not source.name.endswith(".json"))
    if not symbol.name.endswith(".json"):
        raise ConvertError("`files` must name the graph (*-symbol.json) and the weights (*.params)")
    # A detector keeps the outputs of its file; other networks end at InsightFace's `fc1`.
    return read_mxnet(symbol.data(), read_params(weights.data()), cut=spec.role != "detector")


def _from_mxnet(spec: ModelSpec, network: Network) -> Converted:
    if spec.inputs.layout != "nchw":
        raise ConvertError("`input.layout` of an MXNet network is nchw")
    size = spec.inputs.size
    if spec.role == "calculator" and len(network.outputs) != 1:
        names = ", ".join(network.outputs)
        raise ConvertError(
            f"the network has the outputs {names[:300]}; a calculator has a single one"
        )
    height, width = (size, size) if size else _TRIAL
    made = to_bytes(emit_mxnet(network, (3, height, width), free_size=not size))
    return Converted(
        (Candidate(made),),
        lambda batch: mxnet_run.run(network, batch),
        tuple(network.outputs),
    )


def _from_onnx(spec: ModelSpec, data: bytes) -> Converted:
    size, layout = spec.inputs.size, spec.inputs.layout
    calculator = spec.role == "calculator"
    info = onnx_file.inspect(onnx_file.parse(data), data, size, layout, one_output=calculator)
    runner = session(data)

    def once(batch: Array) -> list[Array]:
        try:
            return [np.asarray(value) for value in runner.run(None, {info.input: batch})]
        except Exception as error:  # ONNX Runtime's exceptions share no public base class
            if "bad_alloc" in str(error):
                raise MemoryError from error
            raise ConvertError(f"ONNX Runtime cannot run the file: {error}") from error

    def original(batch: Array) -> list[Array]:
        fed = batch if layout == "nchw" else np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        step = info.batch or 1  # singly: the answers of a batch are to be verified
        parts = []
        for start in range(0, len(fed), step):
            part = fed[start : start + step]
            filled = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
            parts.append(once(filled))
        if len(parts) == 1 and len(fed) == step:
            return parts[0]
        if any(value.shape[:1] != (step,) for part in parts for value in part):
            raise ConvertError("an output of the network has no batch axis")
        columns = zip(*parts, strict=True)
        return [np.concatenate(column)[: len(fed)] for column in columns]

    seen: list[list[Array]] = []
    if not size:
        seen = [original(np.zeros((1, 3, *sides), np.float32)) for sides in (_TRIAL, _OTHER)]
    candidates = []
    keep = () if calculator or (info.batch or 1) > 1 else (1,)
    for batch in (None, *keep):
        for rewrite in (True, False):
            model = onnx_file.parse(data)
            if batch is None:
                onnx_file.free_batch(model, info)
            if rewrite and not onnx_file.fast_prelu(model):
                continue
            if layout == "nhwc":
                onnx_file.nchw_input(model, info, size)
            if seen:
                pairs = zip(info.outputs, *seen, strict=True)
                shapes = {name: [value.shape for value in values] for name, *values in pairs}
                onnx_file.free_outputs(model, shapes)
            candidates.append(Candidate(to_bytes(model), batch))
    return Converted(tuple(candidates), original, info.outputs)
