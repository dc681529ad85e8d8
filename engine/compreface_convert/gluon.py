"""Networks of MXNet's gluon model zoo, for `.params` files, which hold weights and no graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array
from compreface_convert.mxnet_graph import Attrs, Network, Step

_PICTURE: Final = "data"
OUTPUT: Final = "output"
"""The name of the scores, before any softmax; the file does not name them."""
# The prefix of `collect_params`; its counter depends on what the training script built before.
_PREFIX: Final = re.compile(r"(mobilenetv2|resnetv1)\d+_")
_STATISTICS: Final = ("gamma", "beta", "running_mean", "running_var")

# MobileNetV2 (arXiv 1801.04381, table 2): channels and stride of each of the 17 bottlenecks.
_CHANNELS: Final = (16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320)
_STRIDES: Final = (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)


def build(network: str, weights: Mapping[str, Array]) -> Network:
    """The network of that name with the file's arrays. Raises ConvertError if they do not fit.

    Arrays are named by place (`features.0.weight`, as `save_parameters` does) or by layer
    (`mobilenetv20_features_conv0_weight`).
    """
    if network not in NETWORKS:
        raise ConvertError(f"`network` {network!r} is not known: use {' or '.join(NETWORKS)}")
    net = _Net({_PREFIX.sub("", name, count=1): array for name, array in weights.items()})
    NETWORKS[network](net)
    if net.left:
        some = ", ".join(sorted(net.left)[:3])
        raise ConvertError(f"the .params file has arrays that {network} does not have: {some}")
    return Network(tuple(net.steps), net.used, _PICTURE, {OUTPUT: net.steps[-1].name})


class _Net:
    """The steps of a network; weights are looked up under both names that they can have."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.steps: list[Step] = []
        self.used: dict[str, Array] = {}
        self.left = dict(weights)

    def add(self, op: str, *inputs: str, **attrs: object) -> str:
        name = f"{op.lower()}{len(self.steps)}"
        texts = {key: str(value) for key, value in attrs.items()}
        self.steps.append(Step(name, op, inputs, Attrs(texts)))
        return name

    def weight(self, place: str, layer: str, kind: str) -> str:
        for name in (f"{place}.{kind}", f"{layer}_{kind}"):
            if name in self.left:
                self.used[name] = self.left.pop(name)
                return name
        raise ConvertError(f"the .params file has neither '{place}.{kind}' nor '{layer}_{kind}'")

    def conv(
        self, x: str, place: str, layer: str, kernel: int, stride: int = 1, group: int = 1
    ) -> str:
        weights = self.weight(place, layer, "weight")
        pad = kernel // 2
        return self.add(
            "Convolution", x, weights, no_bias=True, kernel=(kernel, kernel),
            stride=(stride, stride), pad=(pad, pad), num_group=group,
        )  # fmt: skip

    def norm(self, x: str, place: str, layer: str) -> str:
        inputs = [self.weight(place, layer, kind) for kind in _STATISTICS]
        return self.add("BatchNorm", x, *inputs, fix_gamma=False, eps=1e-5)

    def relu(self, x: str) -> str:
        return self.add("Activation", x, act_type="relu")

    def relu6(self, x: str) -> str:
        return self.add("clip", x, a_min=0, a_max=6)

    def mean(self, x: str) -> str:
        return self.add("Pooling", x, global_pool=True, pool_type="avg")


def _mobilenet_v2(net: _Net) -> None:
    x = net.conv(_PICTURE, "features.0", "features_conv0", 3, 2)
    x = net.relu6(net.norm(x, "features.1", "features_batchnorm0"))
    inside = 32
    for i, (channels, stride) in enumerate(zip(_CHANNELS, _STRIDES, strict=True)):
        place, layer = f"features.{i + 3}.out", f"features_linearbottleneck{i}"
        wide = inside * (6 if i else 1)
        y = net.conv(x, f"{place}.0", f"{layer}_conv0", 1)
        y = net.relu6(net.norm(y, f"{place}.1", f"{layer}_batchnorm0"))
        y = net.conv(y, f"{place}.3", f"{layer}_conv1", 3, stride, wide)
        y = net.relu6(net.norm(y, f"{place}.4", f"{layer}_batchnorm1"))
        y = net.conv(y, f"{place}.6", f"{layer}_conv2", 1)
        y = net.norm(y, f"{place}.7", f"{layer}_batchnorm2")
        same = stride == 1 and inside == channels
        x, inside = net.add("elemwise_add", y, x) if same else y, channels
    x = net.conv(x, "features.20", "features_conv1", 1)
    x = net.mean(net.relu6(net.norm(x, "features.21", "features_batchnorm1")))
    net.add("Flatten", net.conv(x, "output.0", "output_pred", 1))


def _resnet18_v1(net: _Net) -> None:
    x = net.conv(_PICTURE, "features.0", "conv0", 7, 2)
    x = net.relu(net.norm(x, "features.1", "batchnorm0"))
    x = net.add("Pooling", x, pool_type="max", kernel=(3, 3), stride=(2, 2), pad=(1, 1))
    for stage in range(1, 5):
        number = 0  # of a convolution and its batch norm within the stage
        for unit in range(2):
            place, first = f"features.{stage + 3}.{unit}", stage > 1 and unit == 0
            y = x
            for i, (at, stride) in enumerate(((0, 2 if first else 1), (3, 1))):
                layer = f"stage{stage}_conv{number}", f"stage{stage}_batchnorm{number}"
                y = net.conv(y, f"{place}.body.{at}", layer[0], 3, stride)
                y = net.norm(y, f"{place}.body.{at + 1}", layer[1])
                y = net.relu(y) if i == 0 else y
                number += 1
            if first:
                layer = f"stage{stage}_conv{number}", f"stage{stage}_batchnorm{number}"
                x = net.conv(x, f"{place}.downsample.0", layer[0], 1, 2)
                x = net.norm(x, f"{place}.downsample.1", layer[1])
                number += 1
            x = net.relu(net.add("elemwise_add", y, x))
    weights = [net.weight("output", "dense0", kind) for kind in ("weight", "bias")]
    net.add("FullyConnected", net.mean(x), *weights)


NETWORKS: Final[Mapping[str, Callable[[_Net], None]]] = {
    "mobilenet_v2": _mobilenet_v2,
    "resnet18_v1": _resnet18_v1,
}
