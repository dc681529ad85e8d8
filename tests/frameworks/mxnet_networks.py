"""Upstream's MXNet architectures, built with MXNet; depth and operators are theirs."""

from __future__ import annotations

from typing import Any

import mxnet as mx

_EPS = 2e-5


def _norm(x: Any, name: str, fix_gamma: bool = False) -> Any:
    return mx.sym.BatchNorm(x, fix_gamma=fix_gamma, eps=_EPS, momentum=0.9, name=name)


def _conv(x: Any, name: str, filters: int, kernel: int, stride: int = 1, **more: Any) -> Any:
    pad = kernel // 2
    return mx.sym.Convolution(
        x, num_filter=filters, kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad),
        no_bias=True, name=name, **more,
    )  # fmt: skip


def _prelu(x: Any, name: str) -> Any:
    return mx.sym.LeakyReLU(x, act_type="prelu", name=name)


def _relu(x: Any, name: str) -> Any:
    return mx.sym.Activation(x, act_type="relu", name=name)


def _picture() -> Any:
    """InsightFace's own normalisation at the head of a network."""
    data = mx.sym.identity(mx.sym.Variable("data"), name="id")
    return (data - 127.5) * 0.0078125


ARCFACE = {34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}


def arcface(depth: int, width: int, training: bool = False) -> Any:
    """InsightFace's fresnet: units of version 3 with PReLU, no squeeze, output E, 512 values."""
    x = _conv(_picture(), "conv0", width, 3)
    x = _prelu(_norm(x, "bn0"), "relu0")
    for stage, units in enumerate(ARCFACE[depth]):
        for unit in range(units):
            name, first = f"stage{stage + 1}_unit{unit + 1}", unit == 0
            filters, stride = width << stage, 2 if first else 1
            y = _conv(_norm(x, f"{name}_bn1"), f"{name}_conv1", filters, 3)
            y = _prelu(_norm(y, f"{name}_bn2"), f"{name}_relu1")
            y = _norm(_conv(y, f"{name}_conv2", filters, 3, stride), f"{name}_bn3")
            if first:
                x = _norm(_conv(x, f"{name}_conv1sc", filters, 1, stride), f"{name}_sc")
            x = y + x
    x = mx.sym.Dropout(_norm(x, "bn1"), p=0.4)
    x = mx.sym.FullyConnected(x, num_hidden=512, name="pre_fc1")
    embedding = _norm(x, "fc1", fix_gamma=True)
    if not training:
        return embedding
    label, weight = mx.sym.Variable("softmax_label"), mx.sym.Variable("fc7_weight")
    scores = mx.sym.FullyConnected(
        mx.sym.L2Normalization(embedding) * 64, weight, num_hidden=10, no_bias=True, name="fc7"
    )
    return mx.sym.Group(
        [mx.sym.BlockGrad(embedding), mx.sym.SoftmaxOutput(scores, label, name="softmax")]
    )


def _resnet50(width: int) -> list[Any]:
    """ResNet-50 with normalisation before activation; strides 8, 16 and 32."""
    x = _norm(mx.sym.Variable("data"), "bn_data", fix_gamma=True)
    x = _relu(_norm(_conv(x, "conv0", width, 7, 2), "bn0"), "relu0")
    x = mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")
    levels = []
    for stage, units in enumerate((3, 4, 6, 3)):
        for unit in range(units):
            name, filters = f"stage{stage + 1}_unit{unit + 1}", width << (stage + 2)
            stride = 2 if unit == 0 and stage else 1
            before = _relu(_norm(x, f"{name}_bn1"), f"{name}_relu1")
            if unit == 0 and stage > 1:
                levels.append(before)
            y = _conv(before, f"{name}_conv1", filters // 4, 1)
            y = _relu(_norm(y, f"{name}_bn2"), f"{name}_relu2")
            y = _conv(y, f"{name}_conv2", filters // 4, 3, stride)
            y = _relu(_norm(y, f"{name}_bn3"), f"{name}_relu3")
            y = _conv(y, f"{name}_conv3", filters, 1)
            x = y + (_conv(before, f"{name}_sc", filters, 1, stride) if unit == 0 else x)
    return [*levels, _relu(_norm(x, "bn1"), "relu1")]


def retinaface(width: int) -> Any:
    """RetinaFace over ResNet-50: lateral connections, context modules, nine outputs."""
    filters = 4 * width
    c1, c2, c3 = _resnet50(width)

    def layer(x: Any, name: str, count: int, kernel: int, active: bool = True) -> Any:
        pad = kernel // 2
        x = mx.sym.Convolution(
            x, num_filter=count, kernel=(kernel, kernel), pad=(pad, pad), stride=(1, 1), name=name
        )
        x = _norm(x, f"{name}_bn")
        return _relu(x, f"{name}_relu") if active else x

    laterals = [layer(x, f"rf_c{i}_lateral", filters, 1) for i, x in ((3, c3), (2, c2), (1, c1))]
    levels = [laterals[0]]
    for i, lateral in enumerate(laterals[1:]):
        up = mx.sym.UpSampling(levels[-1], scale=2, sample_type="nearest", workspace=512)
        total = lateral + mx.sym.Crop(up, lateral)
        levels.append(layer(total, f"rf_c{2 - i}_aggr", filters, 3))
    outputs = []
    for stride, x in zip((32, 16, 8), levels, strict=True):
        name = f"rf_head_stride{stride}"
        near = layer(x, f"{name}_conv1", filters // 2, 3, active=False)
        context = layer(x, f"{name}_context1", filters // 4, 3)
        middle = layer(context, f"{name}_context2", filters // 4, 3, active=False)
        far = layer(context, f"{name}_context3_1", filters // 4, 3)
        far = layer(far, f"{name}_context3_2", filters // 4, 3, active=False)
        x = _relu(mx.sym.concat(near, middle, far, dim=1), f"{name}_relu")
        heads = {}
        for kind, count in (("cls_score", 4), ("bbox_pred", 8), ("landmark_pred", 20)):
            heads[kind] = mx.sym.Convolution(
                x, num_filter=count, kernel=(1, 1), name=f"face_rpn_{kind}_stride{stride}"
            )
        scores = mx.sym.Reshape(heads["cls_score"], shape=(0, 2, -1, 0))
        scores = mx.sym.SoftmaxActivation(scores, mode="channel")
        scores = mx.sym.Reshape(
            scores, shape=(0, 4, -1, 0), name=f"face_rpn_cls_prob_reshape_stride{stride}"
        )
        outputs += [scores, heads["bbox_pred"], heads["landmark_pred"]]
    return mx.sym.Group(outputs)


def landmarks106(width: int) -> Any:
    """A MobileNet with PReLU that gives 106 points as 212 values, for 192 x 192."""

    def block(x: Any, name: str, count: int, stride: int, kernel: int = 3, group: int = 1) -> Any:
        x = _conv(x, name, count, kernel, stride, num_group=group)
        # As InsightFace writes it: no eps, so MXNet's own.
        x = mx.sym.BatchNorm(x, fix_gamma=True, name=f"{name}_batchnorm")
        return _prelu(x, f"{name}_relu")

    x, inside = block(_picture(), "conv_1", width, 2), width
    outs = (2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)
    strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    for i, (factor, stride) in enumerate(zip(outs, strides, strict=True)):
        x = block(x, f"conv_{i + 2}_dw", inside, stride, group=inside)
        inside = width * factor
        x = block(x, f"conv_{i + 2}", inside, 1, kernel=1)
    x = block(x, "conv_15", 4 * width, 2)
    return mx.sym.FullyConnected(x, num_hidden=212, name="fc1")


def odd_ends() -> Any:
    """What else old graphs hold, each operator an output of its own."""
    data = mx.sym.Variable("data")
    pool, sym = mx.sym.Pooling, mx.sym
    wide = {"kernel": (3, 3), "stride": (2, 2)}
    return sym.Group(
        [
            sym.LeakyReLU(data, act_type="leaky", name="leaky"),
            sym.LeakyReLU(data, act_type="elu", slope=0.3, name="elu"),
            sym.clip(data, a_min=-0.5, a_max=0.7, name="clip"),
            *(sym.Activation(data, act_type=kind, name=kind)
              for kind in ("sigmoid", "tanh", "softrelu", "softsign")),
            *(sym.L2Normalization(data, mode=mode, name=f"l2_{mode}")
              for mode in ("instance", "channel", "spatial")),
            pool(data, pool_type="max", pooling_convention="full", name="max_full", **wide),
            pool(data, pool_type="max", pad=(1, 1), name="max_valid", **wide),
            pool(data, pool_type="max", kernel=(2, 2), name="max_stride_1"),
            pool(data, pool_type="avg", pad=(1, 1), name="avg_padded", **wide),
            pool(data, pool_type="avg", pad=(1, 1), count_include_pad=False, name="avg", **wide),
            pool(data, pool_type="max", global_pool=True, kernel=(7, 7), name="max_global"),
            _conv(data, "dilated", 4, 3, dilate=(2, 2)),
            sym.Convolution(sym.concat(data, data), num_filter=4, kernel=(3, 1), pad=(1, 0),
                            num_group=2, name="grouped"),
            sym.Crop(data, pool(data, pool_type="max", **wide), offset=(2, 1), name="crop"),
            sym.broadcast_mul(data, pool(data, global_pool=True, pool_type="avg"), name="scaled"),
            sym.add_n(data, data, data, name="sum"),
            sym.softmax(sym.Flatten(data), name="softmax") * 1,
        ]
    )  # fmt: skip
