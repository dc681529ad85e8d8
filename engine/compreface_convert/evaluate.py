"""Evaluates a graph in NumPy, completely or as far as its constants allow, in inference mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Graph, Node
from compreface_convert.kernels import compute

MAX_BYTES = 2 << 30
"""Bytes that all results of a run may take together."""
MAX_WORK = 400_000_000_000
"""Multiplications of a run, estimated; a batch of FaceNet takes 3e9."""

FIXED_FEEDS: Final[Mapping[str, Array]] = {
    "phase_train": np.array(False),
    "keep_probability": np.array(1.0, np.float32),
}
"""Placeholders of training scripts, with their values at inference."""


class _Mark:
    """The state of a value that is not an array."""


DEAD, UNKNOWN = _Mark(), _Mark()
Value = Array | _Mark


class Evaluation:
    """The values of a graph for given feeds; what depends on an UNKNOWN feed stays symbolic."""

    def __init__(
        self, graph: Graph, feeds: Mapping[str, Value], *, max_bytes: int = MAX_BYTES
    ) -> None:
        self._graph = graph
        free = {n: v for n, v in graph.constants.items() if n not in graph.nodes}
        self._values: dict[str, Value] = {**free, **feeds}
        self._alias: dict[str, str] = {}
        self._bytes = self._work = 0
        self._max_bytes = max_bytes

    def value(self, name: str) -> Value:
        """The value of `name`, computed with all that it needs; iterative, as graphs are deep."""
        stack, path = [name], set[str]()
        while stack:
            top = stack[-1]
            if top in self._values:
                stack.pop()
                continue
            need = self._missing(top)
            if need is None:
                self._values[top] = self._compute(top)
            elif need in path or need == top:
                raise ConvertError(f"the graph has a cycle at node '{need}'")
            else:
                path.add(top)
                stack.append(need)
        return self._values[name]

    def array(self, name: str) -> Array:
        value = self.value(name)
        if isinstance(value, _Mark):
            raise ConvertError(f"the value of '{name}' is not defined when phase_train is false")
        return value

    def source(self, name: str) -> str:
        """The value that identities, switches and merges pass on under the name `name`."""
        while name in self._alias:
            name = self._alias[name]
        return name

    def _split(self, name: str) -> tuple[Node, int]:
        base, _, port = name.partition(":")
        node = self._graph.nodes.get(base)
        if node is None:
            raise ConvertError(f"the graph refers to '{base}', which it does not have")
        return node, int(port) if port.isdigit() else 0

    def _missing(self, name: str) -> str | None:
        """The next value that `name` depends on; the inputs of a dead branch are not evaluated."""
        node, port = self._split(name)
        if _is_fixed(node):
            return None
        needs = [*self._pivots(node), *node.inputs]
        if node.op in ("Switch", "RefSwitch") and len(node.inputs) == 2:
            needs = [node.inputs[1]]
            if node.inputs[1] in self._values and self._flows(node, port):
                needs = list(node.inputs)
        for need in needs:
            if need not in self._values:
                return need
            if self._values[need] is DEAD and node.op != "Merge":
                return None
        return None

    def _pivots(self, node: Node) -> list[str]:
        """The control inputs that decide whether the branch of a node is taken."""
        pivots = []
        for name in node.control:
            pivot = self._graph.nodes.get(name.partition(":")[0])
            if pivot is not None and pivot.op == "Identity" and pivot.inputs:
                pivot = self._graph.nodes.get(pivot.inputs[0].partition(":")[0])
            if pivot is not None and pivot.op in ("Switch", "RefSwitch"):
                pivots.append(name)
        return pivots

    def _flows(self, switch: Node, port: int) -> bool:
        """Whether output `port` of a switch is live: 0 where its predicate is false, else 1."""
        predicate = self._values[switch.inputs[1]]
        if isinstance(predicate, _Mark) or predicate.size != 1 or port > 1:
            raise ConvertError(
                f"the switch '{switch.name}' depends on neither phase_train nor a constant"
            )
        return bool(predicate.reshape(-1)[0]) == (port == 1)

    def _compute(self, name: str) -> Value:
        node, port = self._split(name)
        if _is_fixed(node):
            return FIXED_FEEDS[node.name]
        if any(self._values[pivot] is DEAD for pivot in self._pivots(node)):
            return DEAD
        if node.op == "Merge":
            return self._merge(name, node)
        if node.op in ("Switch", "RefSwitch"):
            if len(node.inputs) != 2:
                raise ConvertError(f"the switch '{node.name}' has no predicate")
            if not self._flows(node, port):
                return DEAD
            self._alias[name] = node.inputs[0]
            return self._values[node.inputs[0]]
        if any(self._values.get(need) is DEAD for need in node.inputs):
            return DEAD
        args = [self._values[need] for need in node.inputs]
        if port:
            raise ConvertError(f"output {port} of {node.op} (node '{node.name}') is not supported")
        if node.op in ("Identity", "StopGradient") and len(node.inputs) == 1:
            self._alias[name] = node.inputs[0]
        if any(arg is UNKNOWN for arg in args):
            return UNKNOWN
        if node.op == "Const":
            if node.name in self._graph.constants:
                return self._graph.constants[node.name]
            raise ConvertError(f"the constant '{node.name}' has a type that is not supported")
        if node.op == "NoOp":
            return UNKNOWN
        arrays = [arg for arg in args if not isinstance(arg, _Mark)]
        result = compute(node.op, arrays, node.attrs, node.name)
        self._bytes += result.nbytes
        if node.op in ("Conv2D", "MatMul"):
            self._work += result.size * arrays[1].size // max(1, result.shape[-1])
        if self._bytes > self._max_bytes or self._work > MAX_WORK:
            raise ConvertError("the network is too large to verify")
        return result

    def _merge(self, name: str, node: Node) -> Value:
        alive = [source for source in node.inputs if self._values[source] is not DEAD]
        if not alive:
            return DEAD
        if len(alive) > 1:
            raise ConvertError(f"the merge '{node.name}' has {len(alive)} live branches")
        self._alias[name] = alive[0]
        return self._values[alive[0]]


def _is_fixed(node: Node) -> bool:
    return node.name in FIXED_FEEDS and node.op.startswith("Placeholder")


def run(graph: Graph, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs of the graph for these inputs."""
    evaluation = Evaluation(graph, feeds)
    return [evaluation.array(name) for name in graph.outputs]


def specialise(graph: Graph) -> Graph:
    """The graph at inference: without switches and identities, with every constant folded."""
    evaluation = Evaluation(graph, dict.fromkeys(graph.inputs, UNKNOWN))
    for name in graph.outputs:
        if evaluation.value(name) is not UNKNOWN:
            raise ConvertError(f"the output '{name}' does not depend on the picture")
    nodes: dict[str, Node] = {}
    constants: dict[str, Array] = {}
    stack = [evaluation.source(name) for name in graph.outputs]
    seen = set(stack)
    while stack:
        name = stack.pop()
        value = evaluation.value(name)
        if name in graph.inputs:
            continue
        if not isinstance(value, _Mark):
            constants[name] = value
            continue
        node = graph.nodes[name]
        inputs = tuple(evaluation.source(need) for need in node.inputs)
        nodes[name] = Node(name, node.op, inputs, node.attrs)
        for need in inputs:
            if need not in seen:
                seen.add(need)
                stack.append(need)
    outputs = tuple(evaluation.source(name) for name in graph.outputs)
    return Graph(nodes, constants, dict(graph.inputs), outputs)


def order(graph: Graph) -> list[Node]:
    """The nodes in topological order."""
    done: dict[str, Node] = {}
    stack = list(reversed(graph.outputs))
    path: set[str] = set()
    while stack:
        name = stack[-1]
        node = graph.nodes.get(name)
        if node is None or name in done:
            stack.pop()
            continue
        missing = [n for n in reversed(node.inputs) if n in graph.nodes and n not in done]
        if not missing:
            done[name] = node
            stack.pop()
        elif name in path:
            raise ConvertError(f"the graph has a cycle at node '{name}'")
        else:
            path.add(name)
            stack.extend(missing)
    return list(done.values())
