"""Rewrites for small networks: full blocks of channels, early pooling, joined heads.

docs/decisions/prelu-rewrite.md has what they gain, and where they do not pay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from compreface_convert.evaluate import order
from compreface_convert.graph import Array, Node
from compreface_convert.simplify import Traced

_PLAIN: Final = {"strides": [1, 1, 1, 1], "dilations": [1, 1, 1, 1], "padding": b"VALID"}
_BLOCK: Final = 16
"""ONNX Runtime computes channels in blocks of 8 or 16, if all of them are full."""


@np.errstate(all="ignore")  # verification refuses values that are not finite
def optimise(traced: Traced, *, large_pictures: bool) -> Traced:
    """The same function in faster operators, for slopes of any sign and size.

    `large_pictures` also pools first and joins heads, which pays where feature maps outgrow the
    cache.
    """
    work = _Work(traced)
    if large_pictures:
        for name in list(work.nodes):
            work.pool_first(work.nodes[name])
        work.join_heads()
    for name in list(work.nodes):
        work.fill_blocks(work.nodes[name])
    graph = replace(traced.graph, nodes=work.nodes)
    graph.nodes = {node.name: node for node in order(graph)}
    return Traced(graph, work.shapes)


class _Work:
    def __init__(self, traced: Traced) -> None:
        self.nodes = dict(traced.graph.nodes)
        self.shapes = dict(traced.shapes)
        self._outputs = traced.graph.outputs
        self._uses = Counter(n for node in self.nodes.values() for n in node.inputs)
        self._uses.update(self._outputs)

    def fill_blocks(self, conv: Node) -> None:
        """Fill the last block of a convolution's channels, and of what follows it, with zeros."""
        extra = -len(conv.attrs["bias"]) % _BLOCK if conv.op == "Conv2D" else 0
        if not extra or extra > _BLOCK // 2:
            return
        chain = [conv]
        while (user := self._only_user(chain[-1].name)) is not None:
            if user.op not in ("Prelu", "Relu", "MaxPool"):
                break
            chain.append(user)
        if user is None or user.op != "Conv2D":
            return
        channels = len(conv.attrs["bias"]) + extra
        for node in chain:
            attrs = dict(node.attrs)
            for key in ("kernel", "bias", "slope"):
                if key in attrs and np.ndim(attrs[key]):
                    attrs[key] = _padded(attrs[key], extra, -1)
            self._add(node.name, node.op, node.inputs, self.shapes[node.name], channels, attrs)
        kernel = _padded(user.attrs["kernel"], extra, 2)
        self.nodes[user.name] = replace(user, attrs={**user.attrs, "kernel": kernel})

    def _only_user(self, name: str) -> Node | None:
        users = [node for node in self.nodes.values() if name in node.inputs]
        return users[0] if len(users) == self._uses[name] == 1 else None

    def pool_first(self, pool: Node) -> None:
        """Move a max pool before the PReLU that precedes it.

        With M = max x and K = max (s * x) over a window, the result is M + relu(K - M) for a slope
        s < 0, and M + (1 - s) * relu(-M) for others. So the convolution also computes s * x for
        the negative slopes, and everything else works on the smaller, pooled values.
        """
        prelu = self.nodes.get(pool.inputs[0]) if pool.op == "MaxPool" else None
        if prelu is None or prelu.op != "Prelu" or self._uses[prelu.name] != 1:
            return
        conv, after = self.nodes.get(prelu.inputs[0]), self._only_user(pool.name)
        if conv is None or conv.op != "Conv2D" or self._uses[conv.name] != 1:
            return
        if after is None or after.op != "Conv2D":
            return
        kernel, bias = conv.attrs["kernel"], conv.attrs["bias"]
        slope = np.broadcast_to(prelu.attrs["slope"], bias.shape)
        falling = np.nonzero(slope < 0)[0]
        unused = _BLOCK - len(bias) - len(falling)
        if unused < 0:
            return
        copies = kernel[..., falling] * slope[falling]
        wide = {
            **conv.attrs,
            "kernel": _padded(np.concatenate([kernel, copies], axis=3), unused, -1),
            "bias": _padded(np.concatenate([bias, bias[falling] * slope[falling]]), unused, -1),
        }
        convolved, pooled = f"{conv.name}#wide", f"{pool.name}#wide"
        self._add(convolved, "Conv2D", conv.inputs, self.shapes[conv.name], _BLOCK, wide)
        self._add(pooled, "MaxPool", (convolved,), self.shapes[pool.name], _BLOCK, pool.attrs)
        self._bend(pool.name, pooled, slope)
        # The copies are passed on too, and get the weight 0.
        kernel = _padded(after.attrs["kernel"], _BLOCK - len(bias), 2)
        self.nodes[after.name] = replace(after, attrs={**after.attrs, "kernel": kernel})

    def _bend(self, out: str, pooled: str, slope: Array) -> None:
        """Add `out` as pooled + factor * relu(matrix * pooled)."""
        channels, falling = np.arange(len(slope)), np.nonzero(slope < 0)[0]
        matrix = np.zeros((1, 1, _BLOCK, _BLOCK))
        matrix[0, 0, channels, channels] = -1
        matrix[0, 0, np.arange(len(falling)) + len(slope), falling] = 1
        factor = _padded(np.where(slope < 0, 1.0, 1 - slope), _BLOCK - len(slope), -1)
        linear = {**_PLAIN, "bias": np.zeros(_BLOCK)}
        bent, relu, scaled = (f"{out}#{step}" for step in ("bent", "relu", "scaled"))
        shape = self.shapes[out]
        self._add(bent, "Conv2D", (pooled,), shape, _BLOCK, {**linear, "kernel": matrix})
        self._add(relu, "Relu", (bent,), shape, _BLOCK)
        each = {**linear, "kernel": factor.reshape(1, 1, _BLOCK, 1)}
        self._add(scaled, "DepthwiseConv2dNative", (relu,), shape, _BLOCK, each)
        self._add(out, "Add", (scaled, pooled), shape, _BLOCK)

    def _add(
        self,
        name: str,
        op: str,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        channels: int,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.nodes[name] = Node(name, op, inputs, dict(attrs or {}))
        self.shapes[name] = (*shape[:3], channels)

    def join_heads(self) -> None:
        """Join two 1x1 convolutions of a value, the second into a softmax of two.

        A softmax of two values is the sigmoid of their difference.
        """
        for softmax in list(self.nodes.values()):
            conv = self.nodes.get(softmax.inputs[0]) if softmax.op == "Softmax" else None
            if conv is None or not self._is_head(conv) or self.shapes[conv.name][-1] != 2:
                continue
            twins = [
                node
                for node in self.nodes.values()
                if node.inputs == conv.inputs and node is not conv and self._is_head(node)
            ]
            if len(twins) == 1:
                self._join(twins[0], conv, softmax)

    def _is_head(self, node: Node) -> bool:
        return (
            node.op == "Conv2D"
            and node.attrs["kernel"].shape[:2] == (1, 1)
            and list(node.attrs["strides"]) == [1, 1, 1, 1]
            and self._uses[node.name] == 1
        )

    def _join(self, first: Node, second: Node, softmax: Node) -> None:
        kernel, bias = second.attrs["kernel"], second.attrs["bias"]
        attrs = {
            **_PLAIN,
            "kernel": np.concatenate([first.attrs["kernel"], kernel - kernel[..., ::-1]], axis=3),
            "bias": np.concatenate([first.attrs["bias"], bias - bias[::-1]]),
        }
        count, shape = len(first.attrs["bias"]), self.shapes[first.name]
        joined = f"{first.name}#joined"
        self._add(joined, "Conv2D", first.inputs, shape, count + 2, attrs)
        ends = {"start": 0, "stop": count}
        self._add(first.name, "Channels", (joined,), shape, count, {**ends})
        ends = {"start": count, "stop": count + 2}
        self._add(second.name, "Channels", (joined,), shape, 2, {**ends})
        self._add(softmax.name, "Sigmoid", (second.name,), shape, 2)


def _padded(values: Array, extra: int, axis: int) -> Array:
    """`values` with `extra` zeros appended along `axis`."""
    width = [(0, 0)] * values.ndim
    width[axis] = (0, extra)
    return np.pad(values, width)
