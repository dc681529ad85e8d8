"""Runs an MXNet network in NumPy: values for verification, shapes for the conversion."""

from __future__ import annotations

from collections import Counter

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import MAX_BYTES, MAX_WORK
from compreface_convert.graph import Array
from compreface_convert.mxnet_graph import Network
from compreface_convert.mxnet_kernels import compute


def run(network: Network, batch: Array) -> list[Array]:
    """The outputs, in the network's order, for a batch [N, C, H, W] float32."""
    values, _ = _evaluate(network, batch)
    return [values[name] for name in network.outputs.values()]


def shapes(
    network: Network, picture: tuple[int, int, int], count: int
) -> dict[str, tuple[int, ...]]:
    """The shape of every value for `count` pictures [C, H, W]."""
    return _evaluate(network, np.zeros((count, *picture), np.float32))[1]


def _evaluate(
    network: Network, batch: Array
) -> tuple[dict[str, Array], dict[str, tuple[int, ...]]]:
    left = Counter(name for step in network.steps for name in step.inputs)
    left.update(network.outputs.values())
    weights = {name: np.asarray(value, np.float32) for name, value in network.weights.items()}
    values: dict[str, Array] = {network.picture: batch}
    sizes = {network.picture: batch.shape}
    used = work = 0
    for step in network.steps:
        args = [values[name] if name in values else weights[name] for name in step.inputs]
        out = compute(step.op, args, step.attrs, step.name)
        values[step.name], sizes[step.name] = out, out.shape
        used += out.nbytes
        if step.op in ("Convolution", "FullyConnected"):
            work += out.size * (args[1].size // max(1, len(args[1])))
        if used > MAX_BYTES or work > MAX_WORK:
            raise ConvertError("the network is too large to verify")
        for name in step.inputs:
            left[name] -= 1
            if not left[name]:
                values.pop(name, None)
    return values, sizes
