"""Reads a SavedModel folder, as Keras writes it, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from compreface_convert import wire
from compreface_convert.errors import ConvertError
from compreface_convert.graph import MAX_NODES, Array, Graph, Node, Shape
from compreface_convert.graphdef import read_node, read_shape
from compreface_convert.saved_model_functions import Inliner, read_library
from compreface_convert.saved_model_variables import Variables
from compreface_convert.tensor_bundle import by_base_name

_TAG: Final = "serve"
_SIGNATURE: Final = "serving_default"
_MAX_FILE: Final = 256 << 20
_MAX_CONSTANT_BYTES: Final = 64 << 20
_FLOAT: Final = 1


@dataclass(frozen=True, slots=True)
class _Tensor:
    """An input or output of a signature: TensorInfo."""

    value: str
    dtype: int
    shape: Shape


@dataclass(slots=True)
class _Model:
    """What a MetaGraphDef says that matters here."""

    nodes: dict[str, Node] = field(default_factory=dict)
    library: dict[str, memoryview] = field(default_factory=dict)
    restore: str = ""
    objects: memoryview = field(default_factory=lambda: memoryview(b""))
    inputs: dict[str, _Tensor] = field(default_factory=dict)
    outputs: dict[str, _Tensor] = field(default_factory=dict)
    has_signature: bool = False


def read_saved_model(files: Mapping[str, Path]) -> Graph:
    """The signature `serving_default` as one graph. `files`: paths by their name in the folder.

    Outputs carry the signature's names, in order of these. Raises ConvertError.
    """
    named = by_base_name(files)
    path = named.get("saved_model.pb")
    if path is None:
        raise ConvertError("the file 'saved_model.pb' is missing; list all files of the folder")
    model = _read(path)
    if not model.has_signature or not model.outputs:
        raise ConvertError(f"the model has no signature '{_SIGNATURE}' with outputs")
    if len(model.inputs) != 1:
        raise ConvertError(f"the model has {len(model.inputs)} inputs; a network here has one")
    (given,) = model.inputs.values()
    if given.dtype != _FLOAT:
        raise ConvertError("the input of the model is not float32")
    inliner = Inliner(model.nodes, model.library)
    sources = {key: inliner.resolve(model.outputs[key].value) for key in sorted(model.outputs)}
    nodes = inliner.flat([*sources.values(), given.value])
    constants = {
        name: node.attrs["value"]
        for name, node in nodes.items()
        if node.op == "Const" and isinstance(node.attrs.get("value"), np.ndarray)
    }
    _load_variables(nodes, constants, Variables(inliner, model.restore, model.objects, named))
    outputs = []
    for key, source in sources.items():
        while key in nodes:
            key += "_"
        nodes[key] = Node(key, "Identity", (source,))
        outputs.append(key)
    return Graph(nodes, constants, {given.value.partition(":")[0]: given.shape}, tuple(outputs))


def _load_variables(
    nodes: dict[str, Node], constants: dict[str, Array], variables: Variables
) -> None:
    """Every read of a variable becomes a constant."""
    for name, node in list(nodes.items()):
        if node.op == "ReadVariableOp" and len(node.inputs) == 1:
            constants[name] = variables.value(node.inputs[0].partition(":")[0])
            nodes[name] = Node(name, "Const", ())


def _read(path: Path) -> _Model:
    """The meta graph tagged `serve`."""
    try:
        if path.stat().st_size > _MAX_FILE:
            raise ConvertError(f"{path.name} is too large: weights belong into `variables`")
        data = path.read_bytes()
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error}") from error
    for number, value in wire.fields(memoryview(data)):
        if number == 2 and _TAG in _tags(wire.blob(value)):
            return _meta_graph(wire.blob(value), len(data))
    raise ConvertError(f"{path.name} has no graph with the tag '{_TAG}'")


def _tags(data: memoryview) -> list[str]:
    return [
        wire.text(tag)
        for number, value in wire.fields(data)
        if number == 1
        for inner, tag in wire.fields(wire.blob(value))
        if inner == 4
    ]


def _meta_graph(data: memoryview, size: int) -> _Model:
    model = _Model()
    for number, value in wire.fields(data):
        if number == 2:
            _graph(wire.blob(value), model, size)
        elif number == 3:
            for inner, name in wire.fields(wire.blob(value)):
                if inner == 3:
                    model.restore = wire.text(name)
        elif number == 5:
            _signature(wire.blob(value), model)
        elif number == 7:
            model.objects = wire.blob(value)
    return model


def _graph(data: memoryview, model: _Model, size: int) -> None:
    left = size + _MAX_CONSTANT_BYTES
    for number, value in wire.fields(data):
        if number == 1:
            node = read_node(wire.blob(value))
            if node.name in model.nodes or len(model.nodes) >= MAX_NODES:
                raise ConvertError(f"the graph has two nodes named '{node.name}', or too many")
            model.nodes[node.name] = node
            constant = node.attrs.get("value")
            left -= constant.nbytes if isinstance(constant, np.ndarray) else 0
            if left < 0:
                raise ConvertError("the constants of the graph claim more than the file holds")
        elif number == 2:
            model.library.update(read_library(wire.blob(value)))


def _signature(data: memoryview, model: _Model) -> None:
    key, signature = wire.entry(data)
    if key != _SIGNATURE:
        return
    model.has_signature = True
    for number, value in wire.fields(signature):
        if number in (1, 2):
            name, tensor = wire.entry(wire.blob(value))
            (model.inputs if number == 1 else model.outputs)[name] = _tensor(tensor)


def _tensor(data: memoryview) -> _Tensor:
    value, dtype = "", 0
    shape: Shape = ()
    for number, raw in wire.fields(data):
        if number == 1:
            value = wire.text(raw).removesuffix(":0")
        elif number == 2:
            dtype = wire.signed(raw)
        elif number == 3:
            shape = read_shape(wire.blob(raw))
    return _Tensor(value, dtype, shape)
