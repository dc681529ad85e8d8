"""Finds the checkpoint's tensor of each variable of a SavedModel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Node
from compreface_convert.saved_model_functions import CALLS, Inliner
from compreface_convert.tensor_bundle import Bundle
from compreface_convert.tensorflow_proto import parse

_OBJECTS: Final = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE: Final = "VARIABLE_VALUE"

Children = dict[str, int]


class Variables:
    """The values of variables, by the node of their handle.

    The graph's own restore operation reads tensors by name and assigns each to a handle. This holds
    for every version of TensorFlow, while names of variables and paths of objects changed. Keras 3
    can save models whose network reads other handles than those. They are resolved as TensorFlow's
    loader does it: an object of the saved graph and an object of the checkpoint are the same if
    the same path leads to them.
    """

    def __init__(
        self, inliner: Inliner, restore: str, objects: Any, files: Mapping[str, Path]
    ) -> None:
        """`restore`: the name of the restore operation; `objects`: a SavedObjectGraph."""
        self._inliner, self._bundle = inliner, Bundle("variables", files)
        self._names = self._restored(restore) if restore else {}
        self._objects = objects
        self._by_path: dict[str, str] | None = None
        self._read: dict[str, Array] = {}

    def value(self, handle: str) -> Array:
        """The value of a variable. Raises ConvertError if its tensor is unknown or broken."""
        if handle not in self._read:
            value = self._bundle.tensor(self._names.get(handle) or self._named_by_path(handle))
            shape = self._inliner.node(handle).attrs.get("shape")
            if isinstance(shape, tuple) and None not in shape and shape != value.shape:
                raise ConvertError(
                    f"the variable '{handle}' has the shape {list(shape)}, "
                    f"its values {list(value.shape)}"
                )
            self._read[handle] = value
        return self._read[handle]

    def _restored(self, restore: str) -> dict[str, str]:
        """The names of tensors by handle, from `AssignVariableOp(handle, RestoreV2(names)[i])`."""
        inliner, names = self._inliner, dict[str, str]()
        lists: dict[str, list[bytes]] = {}
        for node in inliner.run_with(restore):
            if node.op != "AssignVariableOp" or len(node.inputs) != 2:
                continue
            handle, value = (inliner.resolve(name) for name in node.inputs)
            source = inliner.node(value)
            if source.op != "RestoreV2" or len(source.inputs) != 3:
                continue
            if source.name not in lists:
                lists[source.name] = self._restored_names(source)
            port = int(value.partition(":")[2] or 0)
            if port >= len(lists[source.name]):
                raise ConvertError(f"'{source.name}' does not name what it restores")
            name = lists[source.name][port]
            names[handle.partition(":")[0]] = name.decode("utf-8", "backslashreplace")
        return names

    def _restored_names(self, restore: Node) -> list[bytes]:
        """The names of the tensors that a `RestoreV2` reads. Raises ConvertError for slices."""
        names, slices = (
            self._inliner.node(self._inliner.resolve(name)).attrs.get("value")
            for name in restore.inputs[1:]
        )
        if not isinstance(names, list):
            raise ConvertError(f"'{restore.name}' does not name what it restores")
        if not isinstance(slices, list) or any(slices):
            raise ConvertError(f"'{restore.name}' restores variables in parts")
        return names

    def _named_by_path(self, handle: str) -> str:
        if self._by_path is None:
            keys = self._keys()
            self._by_path = {
                name: keys[place] for name, place in self._captured().items() if place in keys
            }
        if handle not in self._by_path:
            raise ConvertError(f"the tensor of the variable '{handle}' is unknown")
        return self._by_path[handle]

    def _captured(self) -> dict[str, int]:
        """The object of each handle: the last inputs of a call are what its function captured."""
        bound = {
            item.key: list(item.value.bound_inputs) for item in self._objects.concrete_functions
        }
        captured_by: dict[str, int] = {}
        for call in self._inliner.top:
            captured = bound.get(str(call.attrs.get("f")), []) if call.op in CALLS else []
            if captured and len(captured) <= len(call.inputs):
                captured_by.update(zip(call.inputs[-len(captured) :], captured, strict=True))
        return captured_by

    def _keys(self) -> dict[int, str]:
        """The names of tensors by object of the saved graph, walking both graphs in parallel."""
        if _OBJECTS not in self._bundle or not self._objects.nodes:
            return {}
        saved = [_children(node) for node in self._objects.nodes]
        graph = parse("TrackableObjectGraph", self._bundle.text(_OBJECTS))
        kept = [(_children(node), _key(node)) for node in graph.nodes]
        keys: dict[int, str] = {}
        stack, seen = [(0, 0)], {0}
        while stack:
            place, other = stack.pop()
            if place >= len(saved) or other >= len(kept):
                raise ConvertError(
                    "the model's graph of objects refers to an object that it does not have"
                )
            children, key = kept[other]
            if key:
                keys[place] = key
            for name, child in saved[place].items():
                if name in children and child not in seen:
                    seen.add(child)
                    stack.append((child, children[name]))
        return keys


def _children(node: Any) -> Children:
    """The children of an object by name."""
    if any(child.node_id < 0 for child in node.children):
        raise ConvertError("the model's graph of objects refers to an object that it does not have")
    return {child.local_name: child.node_id for child in node.children}


def _key(node: Any) -> str:
    """The name of the tensor with an object's value; empty if the object has none."""
    keys = [item.checkpoint_key for item in node.attributes if item.name == _VALUE]
    return str(keys[-1]) if keys else ""
