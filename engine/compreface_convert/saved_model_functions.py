"""Inlines the functions of a graph: each call is replaced by the nodes of its function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from compreface_convert.errors import ConvertError
from compreface_convert.graph import MAX_NODES, Node
from compreface_convert.graphdef import read_node

CALLS: Final = ("PartitionedCall", "StatefulPartitionedCall")
_MAX_DEPTH: Final = 32
_MAX_NAME: Final = 1024
# Inside a function a value is named `node:output:index`. These are the numbers of outputs that are
# not the first of their operator.
_PORTS: Final[Mapping[str, int]] = {
    "batch_mean": 1, "batch_variance": 2, "reserve_space_1": 3, "reserve_space_2": 4,
    "reserve_space_3": 5, "output_true": 1, "value_index": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Function:
    """The body of a function; a result is the name of a value in `nodes`."""

    arguments: tuple[str, ...]
    results: tuple[str, ...]
    nodes: tuple[Node, ...]


def _read_function(message: Any) -> Function:
    values = {item.key: item.value for item in message.ret}
    outputs = [output.name for output in message.signature.output_arg]
    if not values.keys() >= set(outputs):
        raise ConvertError("a function of the file does not give all its results")
    return Function(
        tuple(argument.name for argument in message.signature.input_arg),
        tuple(values[name] for name in outputs),
        tuple(map(read_node, message.node_def)),
    )


class Inliner:
    """The graph with calls expanded on demand; a call's name becomes a prefix of its nodes' names.

    `library`: FunctionDef messages by name, read when they are called, since most are for training.
    """

    def __init__(self, nodes: Mapping[str, Node], library: Mapping[str, Any]) -> None:
        self.top = tuple(nodes.values())
        self._nodes = dict(nodes)
        self._library = library
        self._functions: dict[str, Function] = {}
        self._depth: dict[str, int] = {}
        self._results: dict[str, tuple[str, ...]] = {}
        self._resolved: dict[str, str] = {}

    def node(self, value: str) -> Node:
        """The node that computes `value`."""
        name = value.partition(":")[0]
        node = self._nodes.get(name)
        if node is None:
            raise ConvertError(f"the graph refers to '{name}', which it does not have")
        return node

    def resolve(self, value: str) -> str:
        """The value that calls and identities pass on; its node is neither."""
        passed: dict[str, None] = {}
        while value not in self._resolved:
            if value in passed:
                raise ConvertError(f"the graph has a cycle at node '{value}'")
            passed[value] = None
            node = self.node(value)
            if node.op in CALLS:
                results, port = self._expand(node), _port(value)
                if port >= len(results):
                    raise ConvertError(f"the call '{node.name}' has no result {port}")
                value = results[port]
            elif node.op == "Identity" and len(node.inputs) == 1:
                value = node.inputs[0]
            else:
                self._resolved[value] = value
        resolved = self._resolved[value]
        self._resolved.update(dict.fromkeys(passed, resolved))
        return resolved

    def run_with(self, name: str) -> list[Node]:
        """The nodes that run with node `name`: control inputs, and the bodies of calls."""
        nodes: dict[str, Node] = {}
        stack = [name]
        while stack:
            node = self.node(stack.pop())
            if node.name in nodes:
                continue
            nodes[node.name] = node
            stack += node.control
            if node.op in CALLS:
                self._expand(node)
                inner = self._function(node)
                stack += [f"{node.name}/{made.name}" for made in inner.nodes]
        return list(nodes.values())

    def flat(self, values: Sequence[str]) -> dict[str, Node]:
        """The nodes that resolved `values` depend on, with resolved inputs and without calls."""
        nodes: dict[str, Node] = {}
        stack = list(values)
        while stack:
            node = self.node(stack.pop())
            if node.name not in nodes:
                inputs = tuple(self.resolve(value) for value in node.inputs)
                nodes[node.name] = replace(node, inputs=inputs, control=())
                stack += inputs
        return nodes

    def _function(self, call: Node) -> Function:
        name = call.attrs.get("f")
        if not isinstance(name, str) or name not in self._library:
            raise ConvertError(f"the call '{call.name}' names no function of the file")
        if name not in self._functions:
            self._functions[name] = _read_function(self._library[name])
        return self._functions[name]

    def _expand(self, call: Node) -> tuple[str, ...]:
        """Add the nodes of the call's function, once; returns the names of its results."""
        if call.name in self._results:
            return self._results[call.name]
        function, depth = self._function(call), self._depth.get(call.name, 0) + 1
        if depth > _MAX_DEPTH:
            raise ConvertError(f"the functions of the graph call each other too deeply ({depth})")
        if len(call.inputs) != len(function.arguments):
            raise ConvertError(f"the call '{call.name}' has {len(call.inputs)} inputs")
        if len(self._nodes) + len(function.nodes) > MAX_NODES:
            raise ConvertError(f"the graph has more than {MAX_NODES} nodes")
        given = dict(zip(function.arguments, call.inputs, strict=True))

        def outer(value: str) -> str:
            if value in given:
                return given[value]
            name, _, output = value.partition(":")
            output, _, index = output.partition(":")
            port = _PORTS.get(output, 0) + (int(index) if index.isdecimal() else 0)
            return f"{call.name}/{name}:{port}" if port else f"{call.name}/{name}"

        for node in function.nodes:
            name = f"{call.name}/{node.name}"
            if name in self._nodes or not node.name or len(name) > _MAX_NAME:
                raise ConvertError(f"the graph has two nodes named '{name[:_MAX_NAME]}'")
            inputs = tuple(outer(value) for value in node.inputs)
            control = tuple(f"{call.name}/{held}" for held in node.control if held not in given)
            self._nodes[name] = replace(node, name=name, inputs=inputs, control=control)
            self._depth[name] = depth
        results = tuple(outer(value) for value in function.results)
        self._results[call.name] = results
        return results


def _port(value: str) -> int:
    port = value.partition(":")[2]
    return int(port) if port.isdecimal() else 0
