"""Reads an MXNet symbol (JSON) and its weights into a `Network` of what inference needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from compreface_convert.errors import ConvertError
from compreface_convert.graph import MAX_NODES, Array
from compreface_convert.mxnet_graph import Attrs, Network, Step

_MAX_BYTES: Final = 64 << 20
_EMBEDDING: Final = "fc1"
"""The value at which InsightFace's networks end; what follows is for training."""
_IDENTITIES: Final = frozenset(
    {"_copy", "identity", "BlockGrad", "stop_gradient", "MakeLoss", "make_loss", "Dropout"}
)
_SAME: Final = {
    "BatchNorm_v1": "BatchNorm", "CuDNNBatchNorm": "BatchNorm",
    "_contrib_SyncBatchNorm": "BatchNorm", "Convolution_v1": "Convolution",
    "Pooling_v1": "Pooling", "flatten": "Flatten", "reshape": "Reshape", "concat": "Concat",
    "_Plus": "elemwise_add", "_plus": "elemwise_add", "_add": "elemwise_add",
    "broadcast_add": "elemwise_add", "broadcast_plus": "elemwise_add", "_grad_add": "elemwise_add",
    "_Minus": "elemwise_sub", "_minus": "elemwise_sub", "_sub": "elemwise_sub",
    "broadcast_sub": "elemwise_sub", "broadcast_minus": "elemwise_sub",
    "_Mul": "elemwise_mul", "_mul": "elemwise_mul", "broadcast_mul": "elemwise_mul",
    "_PlusScalar": "_plus_scalar", "_MinusScalar": "_minus_scalar", "_MulScalar": "_mul_scalar",
    "_DivScalar": "_div_scalar", "ElementWiseSum": "add_n", "_sum": "add_n",
    "Softmax": "SoftmaxOutput",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    op: str
    inputs: tuple[int, ...]
    attrs: Attrs


def read_mxnet(symbol: bytes | memoryview, weights: Mapping[str, Array], *, cut: bool) -> Network:
    """The network of a symbol file. Raises ConvertError for a broken file or missing weights.

    It ends at the file's heads or, with `cut`, at the value `fc1` if there is such a value.
    """
    if len(symbol) > _MAX_BYTES:
        raise ConvertError(f"a symbol file of {len(symbol)} bytes is too large")
    try:
        document = json.loads(bytes(symbol))
    except (ValueError, RecursionError) as error:
        raise ConvertError("the symbol file is not JSON, or is cut short") from error
    if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
        raise ConvertError("the symbol file has no `nodes`; give MXNet's *-symbol.json")
    if len(document["nodes"]) > MAX_NODES:
        raise ConvertError(f"the symbol file has more than {MAX_NODES} nodes")
    nodes = [_node(item, index) for index, item in enumerate(document["nodes"])]
    heads = document.get("heads")
    if not isinstance(heads, list) or not heads:
        raise ConvertError("the symbol file has no `heads`")
    ends = [_reference(head, len(nodes)) for head in heads]
    embeddings = [i for i, node in enumerate(nodes) if node.name == _EMBEDDING and node.op]
    return _Builder(nodes, weights).network(embeddings if cut and embeddings else ends)


def _node(item: Any, index: int) -> _Node:
    if not isinstance(item, dict):
        raise ConvertError(f"node {index} of the symbol file is not an object")
    name, op, inputs = item.get("name"), item.get("op"), item.get("inputs", [])
    if not (isinstance(name, str) and isinstance(op, str) and isinstance(inputs, list)):
        raise ConvertError(f"node {index} of the symbol file has no name, operator or inputs")
    if not name or len(name) > 1000:
        raise ConvertError(f"node {index} of the symbol file has an unusable name")
    texts: dict[str, str] = {}
    if op != "null":  # inputs and weights have copies of their consumer's attributes
        for key in ("attr", "param", "attrs"):  # oldest first: the newest name takes precedence
            part = item.get(key) or {}
            if not isinstance(part, dict):
                raise ConvertError(f"`{key}` of node '{name}' is not an object")
            texts.update((str(k), str(v)) for k, v in part.items())
    made = tuple(_reference(entry, index) for entry in inputs)
    return _Node(name, "" if op == "null" else _SAME.get(op, op), made, Attrs(texts))


def _reference(entry: Any, limit: int) -> int:
    """The node of an entry [node, output, version]: an earlier node, by its first output."""
    whole = isinstance(entry, list) and all(type(part) is int for part in entry)
    if not whole or not 2 <= len(entry) <= 3 or not 0 <= entry[0] < limit:
        raise ConvertError(f"broken symbol file: the reference {str(entry)[:60]}")
    if entry[1] != 0:
        raise ConvertError(f"output {entry[1]} of node {entry[0]} is not supported")
    index: int = entry[0]
    return index


class _Builder:
    def __init__(self, nodes: list[_Node], weights: Mapping[str, Array]) -> None:
        self._nodes, self._weights = nodes, weights

    def network(self, ends: list[int]) -> Network:
        live = self._live(ends)
        names: set[str] = set()
        for index in sorted(live):
            name = self._nodes[index].name
            if name in names:
                raise ConvertError(f"the symbol file has two nodes '{name}'")
            names.add(name)
        steps, used = [], dict[str, Array]()
        for index in sorted(live):
            node = self._nodes[index]
            if not node.op and node.name in self._weights:
                used[node.name] = self._weights[node.name]
            if not node.op or self._is_identity(node):
                continue
            inputs = [self._value(i) for i in self._needs(node)]
            if node.op == "BatchNorm" and len(inputs) == 3:
                # The graphs of the oldest files lack the statistics.
                for name in (f"{node.name}_moving_mean", f"{node.name}_moving_var"):
                    if name not in self._weights:
                        raise ConvertError(f"the .params file has no '{name}'")
                    inputs.append(name)
                    used[name] = self._weights[name]
            steps.append(Step(node.name, node.op, tuple(inputs), node.attrs))
        pictures = {self._nodes[i].name for i in live if not self._nodes[i].op} - used.keys()
        if "data" in pictures and len(pictures) > 1:
            missing = ", ".join(sorted(pictures - {"data"})[:3])
            raise ConvertError(f"the .params file does not fit the symbol: it has no {missing}")
        if len(pictures) != 1:
            raise ConvertError(f"the network must have a single input; it has {len(pictures)}")
        outputs = {self._nodes[end].name: self._value(end) for end in ends}
        made = {step.name for step in steps}
        if len(outputs) != len(ends) or not set(outputs.values()) <= made:
            raise ConvertError(
                "an output of the network has no name of its own, or is not computed"
            )
        return Network(tuple(steps), used, pictures.pop(), outputs)

    def _live(self, ends: list[int]) -> set[int]:
        live, stack = set(ends), list(ends)
        while stack:
            for index in self._needs(self._nodes[stack.pop()]):
                if index not in live:
                    live.add(index)
                    stack.append(index)
        return live

    def _needs(self, node: _Node) -> tuple[int, ...]:
        # The label of SoftmaxOutput is for training.
        return node.inputs[:1] if node.op == "SoftmaxOutput" else node.inputs

    def _is_identity(self, node: _Node) -> bool:
        if node.op in _IDENTITIES and len(node.inputs) != 1:
            raise ConvertError(f"{node.op} (node '{node.name}') has {len(node.inputs)} inputs")
        if node.op == "Dropout" and node.attrs.text("mode", "training") != "training":
            raise ConvertError(f"the dropout '{node.name}' is active at inference")
        return node.op in _IDENTITIES

    def _value(self, index: int) -> str:
        """The name of the value that identities pass on."""
        while self._nodes[index].op and self._is_identity(self._nodes[index]):
            index = self._nodes[index].inputs[0]
        return self._nodes[index].name
