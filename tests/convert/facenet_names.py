"""FaceNet's variables under the names of Sandberg's graphs and of facenet-pytorch's state dict."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_BLOCKS = {
    "Repeat/block35": "repeat_1",
    "Repeat_1/block17": "repeat_2",
    "Repeat_2/block8": "repeat_3",
}
_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def state_dict(constants: Mapping[str, Any]) -> dict[str, Any]:
    """The frozen graph's constants as facenet-pytorch saves them: kernels with outputs first."""
    places = _places(name.rpartition("/weights")[0] for name in constants if "/weights" in name)
    result: dict[str, Any] = {}
    for name, value in constants.items():
        scope, _, part = name.rpartition("/")
        layer, norm = scope.removesuffix("/BatchNorm"), scope.endswith("/BatchNorm")
        if layer not in places or (norm and part not in _NORM):
            continue
        place = places[layer]
        last = place == "last_linear"
        joins = place.endswith("conv2d") or last
        if norm:
            result[f"{'last_bn' if last else place + '.bn'}.{_NORM[part]}"] = value
        elif part == "weights":
            kernel = value.T if last else value.transpose(3, 2, 0, 1)
            result[f"{place}{'' if joins else '.conv'}.weight"] = np.ascontiguousarray(kernel)
        elif part == "biases":
            result[f"{place}.bias"] = value
    for name in [name for name in result if name.endswith("running_mean")]:
        counter = name.replace("running_mean", "num_batches_tracked")
        result[counter] = np.array(0, np.int64)
    # The head of the training's classes, which the graph has not; here with few classes.
    rng = np.random.default_rng(8631)
    result["logits.weight"] = rng.random((9, 512), np.float32)
    result["logits.bias"] = rng.random(9, np.float32)
    return result


def _places(scopes: Iterable[str]) -> dict[str, str]:
    """Where each convolution lies in the state dict; layers of a branch are numbered in order."""
    branches: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for scope in scopes:
        short = scope.removeprefix("InceptionResnetV1/")
        repeated = re.match(r"(Repeat\w*/block\d+)_(\d+)", short)
        if repeated:
            place = f"{_BLOCKS[repeated[1]]}.{int(repeated[2]) - 1}"
            short = place + short.removeprefix(repeated[0])
        short = re.sub(r"^(Mixed_\d.|Block8)", lambda m: m[1].lower(), short)
        inside = re.fullmatch(r"(.*)/Branch_(\d)/\w+", short)
        if inside:
            branches.setdefault(f"{inside[1]}.branch{inside[2]}", []).append(scope)
        elif short == "Bottleneck":
            places[scope] = "last_linear"
        elif "/" in short:  # the 1x1 convolution that ends a block
            places[scope] = f"{short.partition('/')[0]}.conv2d"
        else:
            places[scope] = re.sub(r"_\dx\d$", "", short).lower()
    for branch, layers in branches.items():
        for i, scope in enumerate(sorted(layers)):
            places[scope] = f"{branch}.{i}" if len(layers) > 1 else branch
    return places
