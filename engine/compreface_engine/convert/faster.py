"""Two rewrites for a small network run on large pictures, P-Net: pooling early, one head for two.

docs/decisions/prelu-rewrite.md has what they bring, and where they do not pay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from compreface_engine.convert.evaluate import order
from compreface_engine.convert.graph import Array, Node
from compreface_engine.convert.simplify import Traced

_PLAIN: Final = {"strides": [1, 1, 1, 1], "dilations": [1, 1, 1, 1], "padding": b"VALID"}
_MAX_CHANNELS: Final = 16
"""ONNX Runtime computes channels in blocks of 8 or 16: up to here the extra ones cost little."""


@np.errstate(all="ignore")  # values that are not finite are the proof's affair
def faster(traced: Traced) -> Traced:
    """The same function; slopes of any sign are right, above 1 too."""
    work = _Work(traced)
    for name in list(work.nodes):
        work.pool_first(work.nodes[name])
    work.one_head()
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

    def pool_first(self, pool: Node) -> None:
        """conv, PReLU, max pool: with M = max x and K = max (s * x) over a pool's window, it gives

        max(relu(M), K) for a slope s < 0, and relu(M) - s * relu(-M) for s >= 0. So the
        convolution also computes s * x for the negative slopes, and all else runs on what is left
        after pooling.
        """
        prelu = self.nodes.get(pool.inputs[0]) if pool.op == "MaxPool" else None
        if prelu is None or prelu.op != "Prelu" or self._uses[prelu.name] != 1:
            return
        conv = self.nodes.get(prelu.inputs[0])
        if conv is None or conv.op != "Conv2D" or self._uses[conv.name] != 1:
            return
        kernel, bias = conv.attrs["kernel"], conv.attrs["bias"]
        channels = len(bias)
        slope = np.broadcast_to(prelu.attrs["slope"], (channels,))
        falling = np.nonzero(slope < 0)[0]
        total = channels + len(falling)
        if total > _MAX_CHANNELS:
            return
        wide = {
            **conv.attrs,
            "kernel": np.concatenate([kernel, kernel[..., falling] * slope[falling]], axis=3),
            "bias": np.concatenate([bias, bias[falling] * slope[falling]]),
        }
        convolved, pooled = f"{conv.name}#wide", f"{pool.name}#wide"
        self._add(convolved, "Conv2D", conv.inputs, self.shapes[conv.name], total, wide)
        self._add(pooled, "MaxPool", (convolved,), self.shapes[pool.name], total, pool.attrs)
        self._combine(pool.name, pooled, slope, falling)

    def _combine(self, out: str, pooled: str, slope: Array, falling: Array) -> None:
        """relu(M) + c * relu(B), with B = K - relu(M), c = 1 where s < 0, and -M, -s elsewhere."""
        channels, total = len(slope), len(slope) + len(falling)
        of_pooled, of_positive, keep = (np.zeros((total, channels)) for _ in range(3))
        keep[range(channels), range(channels)] = 1
        rising = np.nonzero(slope >= 0)[0]
        of_pooled[rising, rising] = -1
        of_pooled[range(channels, total), falling] = 1
        of_positive[falling, falling] = -1
        shape = self.shapes[out]
        positive = f"{out}#positive"
        self._add(positive, "Relu", (pooled,), shape, total)
        self._mix(f"{out}#a", positive, of_positive, shape)
        self._mix(f"{out}#b", pooled, of_pooled, shape)
        self._add(f"{out}#c", "Add", (f"{out}#a", f"{out}#b"), shape, channels)
        self._add(f"{out}#d", "Relu", (f"{out}#c",), shape, channels)
        self._mix(f"{out}#e", positive, keep, shape)
        factor = np.where(slope < 0, 1.0, -slope).reshape(1, 1, channels, 1)
        attrs = {**_PLAIN, "kernel": factor, "bias": np.zeros(channels)}
        self._add(f"{out}#f", "DepthwiseConv2dNative", (f"{out}#d",), shape, channels, attrs)
        self._add(out, "Add", (f"{out}#e", f"{out}#f"), shape, channels)

    def _mix(self, name: str, source: str, matrix: Array, shape: tuple[int, ...]) -> None:
        channels = matrix.shape[1]
        attrs = {**_PLAIN, "kernel": matrix[None, None], "bias": np.zeros(channels)}
        self._add(name, "Conv2D", (source,), shape, channels, attrs)

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

    def one_head(self) -> None:
        """Two 1x1 convolutions of one value, the second into a softmax of two: one of both.

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
