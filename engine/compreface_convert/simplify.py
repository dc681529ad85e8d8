"""Rewrites an inference graph into fewer, faster operators; batch norms are folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import Evaluation, order
from compreface_convert.graph import Array, Graph, Node

LINEAR: Final = ("Conv2D", "DepthwiseConv2dNative", "MatMul")
_RESHAPES: Final = ("Reshape", "Squeeze", "ExpandDims")
_BATCH = 2
MAX_WEIGHTS: Final = 1 << 27
"""Twice the largest face network (65 million); they are float64 while batch norms are folded."""
_MAX_PASSES = 50


@dataclass(frozen=True, slots=True)
class Traced:
    """A simplified graph and the NHWC shape of each value for a batch of `_BATCH`."""

    graph: Graph
    shapes: Mapping[str, tuple[int, ...]]


def trace(graph: Graph, picture: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every value for a batch of `_BATCH` pictures [H, W, C]."""
    feeds = {name: np.zeros((_BATCH, *picture), np.float32) for name in graph.inputs}
    evaluation = Evaluation(graph, feeds)
    shapes: dict[str, tuple[int, ...]] = {name: value.shape for name, value in feeds.items()}
    for node in order(graph):
        shapes[node.name] = evaluation.array(node.name).shape
    return shapes


@np.errstate(all="ignore")  # verification refuses values that are not finite
def simplify(graph: Graph, picture: tuple[int, int, int]) -> Traced:
    """The same function in fewer operators, with constants in the attributes of the nodes."""
    shapes = trace(graph, picture)
    # The target of a reshape is known from the trace; the nodes that compute it are not needed.
    cut = {
        name: replace(node, inputs=node.inputs[:1]) if node.op in _RESHAPES else node
        for name, node in graph.nodes.items()
    }
    lean = replace(graph, nodes=cut)
    nodes: dict[str, Node] = {}
    weights = 0
    for node in order(lean):
        nodes[node.name] = made = _normal(node, lean, shapes)
        weights += made.attrs["kernel"].size if made.op in LINEAR else 0
        if weights > MAX_WEIGHTS:
            raise ConvertError(f"the network has more than {MAX_WEIGHTS} weights")
    work = _Rewrite(nodes, graph.outputs, shapes)
    for _ in range(_MAX_PASSES):
        if not work.sweep():
            break
    left = replace(graph, nodes=work.nodes, constants={}, outputs=work.outputs)
    left.nodes = {node.name: node for node in order(left)}
    return Traced(left, shapes)


def _normal(node: Node, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Node:
    """The node with its constants as attributes; per-channel arithmetic becomes `Affine`."""
    shape = shapes[node.name]
    known = [graph.constants.get(name) for name in node.inputs]
    dynamic = tuple(n for n, value in zip(node.inputs, known, strict=True) if value is None)
    if node.op in _RESHAPES:
        if not shape or shape[0] != _BATCH:
            raise ConvertError(f"{node.op} (node '{node.name}') mixes the batch with other sizes")
        return Node(node.name, "Reshape", node.inputs[:1])
    if node.op in LINEAR:
        if known[0] is not None or known[1] is None or node.attrs.get("transpose_a"):
            raise ConvertError(f"the kernel of {node.op} (node '{node.name}') is not constant")
        kernel = known[1].T if node.attrs.get("transpose_b") else known[1]
        attrs = {**node.attrs, "kernel": kernel.astype(np.float64), "bias": np.zeros(shape[-1])}
        return Node(node.name, node.op, dynamic, attrs)
    if node.op.startswith("FusedBatchNorm"):
        if any(value is None for value in known[1:]):
            raise ConvertError(f"the statistics of '{node.name}' are not constant")
        gamma, beta, mean, var = (np.asarray(v, np.float64) for v in known[1:] if v is not None)
        scale = gamma / np.sqrt(var + node.attrs.get("epsilon", 1e-4))
        return _affine(node.name, dynamic[0], scale, beta - mean * scale)
    if len(node.inputs) == 2 and len(dynamic) == 1:
        return _with_constant(node, known, dynamic[0], shape)
    if any(value is not None for value in known) and node.op not in ("Mean", "Sum", "Max"):
        if node.op not in ("ConcatV2", "Pad", "Prelu") or known[0] is not None:
            raise ConvertError(f"{node.op} (node '{node.name}') mixes constants and values")
    op = {"AddV2": "Add", "Div": "RealDiv"}.get(node.op, node.op)
    constants = tuple(value for value in known if value is not None)
    return Node(node.name, op, dynamic, {**node.attrs, "constants": constants})


def _with_constant(
    node: Node, known: list[Array | None], source: str, shape: tuple[int, ...]
) -> Node:
    first = known[0] is not None
    value = next(v for v in known if v is not None)
    channel = _channel(value, shape)
    if channel is not None:
        if node.op in ("Add", "AddV2", "BiasAdd"):
            return _affine(node.name, source, np.ones(()), channel)
        if node.op == "Mul":
            return _affine(node.name, source, channel, np.zeros(()))
        if node.op == "Sub":
            scale = np.array(-1.0 if first else 1.0)
            return _affine(node.name, source, scale, channel if first else -channel)
        if node.op in ("RealDiv", "Div") and not first:
            with np.errstate(all="ignore"):
                return _affine(node.name, source, 1 / channel, np.zeros(()))
        if node.op == "Prelu" and not first:
            return Node(node.name, "Prelu", (source,), {"slope": channel})
        if node.op in ("Maximum", "Minimum"):
            return Node(node.name, node.op, (source,), {"constants": (channel,)})
    if node.op in ("Mean", "Sum", "Max", "Pad") and not first:
        return Node(node.name, node.op, (source,), {**node.attrs, "constants": (value,)})
    raise ConvertError(f"{node.op} (node '{node.name}') with a constant is not supported")


def _channel(value: Array, shape: tuple[int, ...]) -> Array | None:
    """The constant as a scalar or as a value per channel; None if it is neither."""
    if value.size == 1:
        return value.reshape(()).astype(np.float64)
    if value.shape[-1:] == shape[-1:] and value.size == shape[-1]:
        return value.reshape(-1).astype(np.float64)
    return None


def _affine(name: str, source: str, scale: Array, offset: Array) -> Node:
    return Node(name, "Affine", (source,), {"scale": scale, "offset": offset})


class _Rewrite:
    """The rewriting of a graph, in sweeps over its nodes."""

    def __init__(
        self,
        nodes: dict[str, Node],
        outputs: tuple[str, ...],
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        self.nodes, self.outputs, self.shapes = nodes, outputs, shapes
        self._uses: Counter[str] = Counter()

    def sweep(self) -> bool:
        """Apply the rules to each node once; returns whether anything changed."""
        self._uses = Counter(name for node in self.nodes.values() for name in node.inputs)
        self._uses.update(self.outputs)
        changed = False
        for name in list(self.nodes):
            node = self.nodes.get(name)
            if node is None:
                continue
            new = self._affine(node) or self._reshape(node) or self._pattern(node)
            if new is not None:
                self.nodes[name] = new
                changed = True
        live, stack = set[str](), list(self.outputs)
        while stack:
            name = stack.pop()
            if name in self.nodes and name not in live:
                live.add(name)
                stack.extend(self.nodes[name].inputs)
        self.nodes = {name: node for name, node in self.nodes.items() if name in live}
        return changed

    def _get(self, node: Node, index: int = 0) -> Node | None:
        return self.nodes.get(node.inputs[index]) if index < len(node.inputs) else None

    def _affine(self, node: Node) -> Node | None:
        """Fold a per-channel scale and offset into the node before it."""
        before = self._get(node)
        if node.op != "Affine" or before is None or self._uses[before.name] != 1:
            return None
        scale, offset = node.attrs["scale"], node.attrs["offset"]
        if before.op == "Affine":
            inner = before.attrs
            return _affine(
                node.name,
                before.inputs[0],
                inner["scale"] * scale,
                inner["offset"] * scale + offset,
            )
        if before.op in LINEAR:
            kernel, bias = before.attrs["kernel"], before.attrs["bias"]
            wide = np.broadcast_to(scale, bias.shape)
            if before.op == "DepthwiseConv2dNative":
                wide = wide.reshape(kernel.shape[2:])
            attrs = {**before.attrs, "kernel": kernel * wide, "bias": bias * scale + offset}
            return Node(node.name, before.op, before.inputs, attrs)
        if before.op == "Reshape":
            shape, source = self.shapes[node.name], self.shapes[before.inputs[0]]
            if scale.ndim == offset.ndim == 0 or shape[-1] == source[-1]:
                moved = replace(node, name=before.name, inputs=before.inputs)
                self.nodes[before.name] = moved
                self.shapes[before.name] = source
                return Node(node.name, "Reshape", (before.name,))
        return None

    def _reshape(self, node: Node) -> Node | None:
        """Remove a reshape that changes nothing, and join two in a row."""
        if node.op == "Reshape":
            before = self._get(node)
            if before is not None and before.op == "Reshape":
                return Node(node.name, "Reshape", before.inputs)
        inputs = list(node.inputs)
        for i, name in enumerate(inputs):
            source = self.nodes.get(name)
            if source is not None and source.op == "Reshape":
                if self.shapes[name] == self.shapes[source.inputs[0]]:
                    inputs[i] = source.inputs[0]
        return replace(node, inputs=tuple(inputs)) if inputs != list(node.inputs) else None

    def _pattern(self, node: Node) -> Node | None:
        if node.op == "RealDiv":
            return self._softmax(node)
        if node.op == "Add" and len(node.inputs) == 2:
            for first, second in ((0, 1), (1, 0)):
                relu, scaled = self._get(node, first), self._get(node, second)
                if relu is not None and scaled is not None and relu.op == "Relu":
                    slope = self._slope(relu.inputs[0], scaled)
                    if slope is not None:
                        return Node(node.name, "Prelu", relu.inputs, {"slope": slope})
        return None

    def _slope(self, x: str, scaled: Node) -> Array | None:
        """The slope if `scaled` is the negative half of a PReLU of `x`, else None."""
        if scaled.op != "Affine" or np.any(scaled.attrs["offset"]):
            return None
        scale: Array = scaled.attrs["scale"]
        half = self._get(scaled)
        if half is None:
            return None
        if half.op == "Sub" and half.inputs[0] == x:  # slope/2 * (x - |x|)
            other = self._get(half, 1)
            if other is not None and other.op == "Abs" and other.inputs[0] == x:
                return 2 * scale
        if half.op == "Neg":  # slope * -relu(-x)
            relu = self._get(half)
            inner = None if relu is None or relu.op != "Relu" else self._get(relu)
            if inner is not None and inner.op == "Neg" and inner.inputs[0] == x:
                return scale
        return None

    def _softmax(self, node: Node) -> Node | None:
        """A softmax, if the node is exp(x - max x) / sum exp(x - max x) over the channels."""
        raised, total = self._get(node, 0), self._get(node, 1)
        if raised is None or total is None or raised.op != "Exp" or total.op != "Sum":
            return None
        shifted = self._get(raised)
        if shifted is None or shifted.op != "Sub" or total.inputs[0] != raised.name:
            return None
        top = self._get(shifted, 1)
        if top is None or top.op != "Max" or top.inputs[0] != shifted.inputs[0]:
            return None
        rank = len(self.shapes[node.name])
        for reduction in (top, total):
            attrs: Mapping[str, Any] = reduction.attrs
            last = [int(axis) % rank for axis in attrs["constants"][0].reshape(-1)] == [rank - 1]
            if not last or not attrs.get("keep_dims"):
                return None
        return Node(node.name, "Softmax", shifted.inputs[:1])
