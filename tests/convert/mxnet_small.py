"""Small MXNet networks and files for tests, written as MXNet does."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from compreface_convert.mxnet_graph import Network
from compreface_convert.mxnet_symbol import read_mxnet

V1, V2, V3, OLDEST = 0xF993FAC8, 0xF993FAC9, 0xF993FACA, 0
_KINDS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}

Line = tuple[str, str, list[str], dict[str, str]]
"""Operator, name, inputs by name, attributes."""


def params(arrays: Mapping[str, Any], magic: int = V2) -> bytes:
    """A .params file of one of its ages."""
    made = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for value in arrays.values():
        array = np.asarray(value)
        if magic == OLDEST:
            made.append(struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape))
        else:
            made.append(struct.pack("<I", magic))
            made.append(b"" if magic == V1 else struct.pack("<i", 0))
            made.append(struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape))
        made += [struct.pack("<iii", 1, 0, _KINDS[array.dtype.name]), array.tobytes()]
    made.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        made += [struct.pack("<Q", len(name)), name.encode()]
    return b"".join(made)


def symbol(*lines: Line, heads: list[str] | None = None, key: str = "attrs") -> bytes:
    """A symbol file; inputs that no line makes become null nodes, as they come."""
    nodes: list[dict[str, Any]] = []
    places: dict[str, int] = {}
    for op, name, inputs, attrs in lines:
        for needed in inputs:
            if needed not in places:
                places[needed] = len(nodes)
                # MXNet copies a consumer's attributes to its weights.
                nodes.append({"op": "null", "name": needed, "attrs": attrs, "inputs": []})
        references = [[places[needed], 0, 0] for needed in inputs]
        places[name] = len(nodes)
        nodes.append({"op": op, "name": name, key: attrs, "inputs": references})
    ends = [[places[name], 0, 0] for name in heads or [lines[-1][1]]]
    return json.dumps({"nodes": nodes, "heads": ends}).encode()


def network(*lines: Line, heads: list[str] | None = None, **weights: Any) -> Network:
    """The lines as a network with these weights."""
    arrays = {name: np.asarray(value, np.float32) for name, value in weights.items()}
    return read_mxnet(symbol(*lines, heads=heads), arrays, cut=True)


def norm(x: str, name: str, **attrs: str) -> Line:
    """A batch norm with the names MXNet gives."""
    kinds = ("gamma", "beta", "moving_mean", "moving_var")
    return "BatchNorm", name, [x, *(f"{name}_{kind}" for kind in kinds)], attrs


def statistics(name: str, channels: int, seed: int = 0) -> dict[str, Any]:
    """Weights for a batch norm."""
    rng = np.random.default_rng(seed)
    return {
        f"{name}_gamma": rng.uniform(0.5, 2, channels),
        f"{name}_beta": rng.standard_normal(channels),
        f"{name}_moving_mean": rng.standard_normal(channels),
        f"{name}_moving_var": rng.uniform(1e-4, 2, channels),
    }
