"""Reads a SavedModel folder, as Keras writes it, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Graph, Node
from compreface_convert.graphdef import read_nodes, read_shape
from compreface_convert.saved_model_functions import Inliner
from compreface_convert.saved_model_variables import Variables
from compreface_convert.tensor_bundle import by_base_name
from compreface_convert.tensorflow_proto import parse

_TAG: Final = "serve"
_SIGNATURE: Final = "serving_default"
_MAX_FILE: Final = 256 << 20
_FLOAT: Final = 1


def read_saved_model(files: Mapping[str, Path]) -> Graph:
    """The signature `serving_default` as a graph. `files`: paths by their name in the folder.

    The outputs have the signature's names and are sorted by them. Raises ConvertError.
    """
    named = by_base_name(files)
    path = named.get("saved_model.pb")
    if path is None:
        raise ConvertError("the file 'saved_model.pb' is missing; list all files of the folder")
    model, size = _read(path)
    inputs, outputs = _signature(model)
    if not outputs:
        raise ConvertError(f"the model has no signature '{_SIGNATURE}' with outputs")
    if len(inputs) != 1:
        raise ConvertError(f"the model must have a single input; it has {len(inputs)}")
    (given,) = inputs.values()
    if given.dtype != _FLOAT:
        raise ConvertError("the input of the model is not float32")
    library = {item.signature.name: item for item in model.graph_def.library.function}
    inliner = Inliner(read_nodes(model.graph_def.node, size), library)
    sources = {key: inliner.resolve(_value(outputs[key])) for key in sorted(outputs)}
    nodes = inliner.flat([*sources.values(), _value(given)])
    constants = {
        name: node.attrs["value"]
        for name, node in nodes.items()
        if node.op == "Const" and isinstance(node.attrs.get("value"), np.ndarray)
    }
    restore = model.saver_def.restore_op_name
    _load_variables(nodes, constants, Variables(inliner, restore, model.object_graph_def, named))
    names = []
    for key, source in sources.items():
        while key in nodes:
            key += "_"
        nodes[key] = Node(key, "Identity", (source,))
        names.append(key)
    shape = read_shape(given.tensor_shape)
    return Graph(nodes, constants, {_value(given).partition(":")[0]: shape}, tuple(names))


def _value(tensor: Any) -> str:
    """The name of the value that a TensorInfo refers to."""
    return str(tensor.name).removesuffix(":0")


def _load_variables(
    nodes: dict[str, Node], constants: dict[str, Array], variables: Variables
) -> None:
    """Replace every read of a variable by a constant."""
    for name, node in list(nodes.items()):
        if node.op == "ReadVariableOp" and len(node.inputs) == 1:
            constants[name] = variables.value(node.inputs[0].partition(":")[0])
            nodes[name] = Node(name, "Const", ())


def _read(path: Path) -> tuple[Any, int]:
    """The MetaGraphDef tagged `serve`, and the size of the file in bytes."""
    try:
        if path.stat().st_size > _MAX_FILE:
            raise ConvertError(f"{path.name} is too large: weights belong in `variables`")
        data = path.read_bytes()
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error}") from error
    for model in parse("SavedModel", data).meta_graphs:
        if _TAG in model.meta_info_def.tags:
            return model, len(data)
    raise ConvertError(f"{path.name} has no graph with the tag '{_TAG}'")


def _signature(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and outputs of the signature: TensorInfo by name; empty if there is no signature."""
    for item in model.signature_def:
        if item.key == _SIGNATURE:
            return (
                {tensor.key: tensor.value for tensor in item.value.inputs},
                {tensor.key: tensor.value for tensor in item.value.outputs},
            )
    return {}, {}
