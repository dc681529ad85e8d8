"""TensorFlow's operators in NumPy: the reference of a conversion, and for constant folding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array

MAX_ELEMENTS = 1 << 27
"""Values that a result may have (512 MiB of float32)."""
MAX_MULTIPLICATIONS = 60_000_000_000
"""Multiplications that a layer may take; the whole of FaceNet takes 1.4e9 a face."""

MAX_TAPS = 4096
"""Points that a window may have."""

Attrs: TypeAlias = Mapping[str, Any]
Kernel: TypeAlias = Callable[[Sequence[Array], Attrs], Array]


def spatial(size: int, kernel: int, stride: int, dilation: int, same: bool) -> tuple[int, int, int]:
    """Output size, padding before and padding after, by TensorFlow's rule."""
    reach = (kernel - 1) * dilation + 1
    if not same:
        return max(0, (size - reach) // stride + 1), 0, 0
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + reach - size)
    return out, total // 2, total - total // 2


def window(attrs: Attrs, key: str) -> tuple[int, int]:
    """Height and width of a window attribute, whose batch and channel entries must be 1."""
    values = attrs.get(key) or [1, 1, 1, 1]
    if len(values) != 4 or values[0] != 1 or values[3] != 1 or min(values) < 1:
        raise ConvertError(f"{key} {values} is not supported")
    if max(values) > 4096:
        raise ConvertError(f"{key} {values} is too large")
    return int(values[1]), int(values[2])


def is_same(attrs: Attrs) -> bool:
    padding = attrs.get("padding")
    if padding not in (b"SAME", b"VALID"):
        raise ConvertError(f"padding {padding!r} is not supported")
    if attrs.get("data_format", b"NHWC") != b"NHWC":
        raise ConvertError("only the layout NHWC is supported")
    return bool(padding == b"SAME")


def check_size(shape: Sequence[int]) -> None:
    if len(shape) > 8 or math.prod(shape) > MAX_ELEMENTS:
        raise ConvertError(f"a result of shape {list(shape)} is too large")


def _windows(x: Array, kernel: tuple[int, int], attrs: Attrs, fill: float) -> list[list[Array]]:
    """The strided view of the padded picture for each point of the window, by row and column."""
    if x.ndim != 4:
        raise ConvertError(f"a window over {x.ndim} dimensions")
    strides, dilations, same = window(attrs, "strides"), window(attrs, "dilations"), is_same(attrs)
    pads, outs = [], []
    for axis in (0, 1):
        out, before, after = spatial(
            x.shape[1 + axis], kernel[axis], strides[axis], dilations[axis], same
        )
        pads.append((before, after))
        outs.append(out)
    if kernel[0] * kernel[1] > MAX_TAPS:
        raise ConvertError(f"a window of {list(kernel)} is too large")
    if min(outs) < 1:
        raise ConvertError(f"a window of {list(kernel)} does not fit into {list(x.shape)}")
    check_size([len(x), x.shape[1] + sum(pads[0]), x.shape[2] + sum(pads[1]), x.shape[3]])
    if any(sum(pad) for pad in pads):
        x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    return [
        [
            x[
                :,
                row * dilations[0] : row * dilations[0] + (outs[0] - 1) * strides[0] + 1 : strides[
                    0
                ],
                col * dilations[1] : col * dilations[1] + (outs[1] - 1) * strides[1] + 1 : strides[
                    1
                ],
            ]
            for col in range(kernel[1])
        ]
        for row in range(kernel[0])
    ]


def _conv(args: Sequence[Array], attrs: Attrs) -> Array:
    x, weights = args
    if weights.ndim != 4 or x.ndim != 4 or x.shape[3] != weights.shape[2]:
        raise ConvertError(f"a convolution of {list(x.shape)} with {list(weights.shape)}")
    views = _windows(x, (weights.shape[0], weights.shape[1]), attrs, 0)
    shape = (*views[0][0].shape[:3], weights.shape[3])
    check_size(shape)
    check_work(math.prod(shape[:3]) * weights.size)
    out = np.zeros(shape, x.dtype)
    for row, line in enumerate(views):
        for col, view in enumerate(line):
            out += view @ weights[row, col]
    return out


def _depthwise(args: Sequence[Array], attrs: Attrs) -> Array:
    x, weights = args
    if weights.ndim != 4 or x.ndim != 4 or x.shape[3] != weights.shape[2]:
        raise ConvertError(f"a convolution of {list(x.shape)} with {list(weights.shape)}")
    views = _windows(x, (weights.shape[0], weights.shape[1]), attrs, 0)
    shape = (*views[0][0].shape, weights.shape[3])
    check_size(shape)
    check_work(math.prod(shape) * len(views) * len(views[0]))
    out = np.zeros(shape, x.dtype)
    for row, line in enumerate(views):
        for col, view in enumerate(line):
            out += view[..., None] * weights[row, col]
    return out.reshape(*shape[:3], -1)


def _max_pool(args: Sequence[Array], attrs: Attrs) -> Array:
    views = _windows(args[0], window(attrs, "ksize"), attrs, -np.inf)
    out = views[0][0].copy()
    for line in views:
        for view in line:
            np.maximum(out, view, out=out)
    return out


def _avg_pool(args: Sequence[Array], attrs: Attrs) -> Array:
    kernel = window(attrs, "ksize")
    views = _windows(args[0], kernel, attrs, 0)
    counts = _windows(np.ones((1, *args[0].shape[1:3], 1), args[0].dtype), kernel, attrs, 0)
    total, count = np.zeros_like(views[0][0]), np.zeros_like(counts[0][0])
    for line, ones in zip(views, counts, strict=True):
        for view, points in zip(line, ones, strict=True):
            total += view
            count += points
    return total / count


def _matmul(args: Sequence[Array], attrs: Attrs) -> Array:
    left = args[0].T if attrs.get("transpose_a") else args[0]
    right = args[1].T if attrs.get("transpose_b") else args[1]
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise ConvertError(f"a product of {list(left.shape)} and {list(right.shape)}")
    check_size((left.shape[0], right.shape[1]))
    check_work(left.shape[0] * right.size)
    return left @ right


def check_work(multiplications: int) -> None:
    if multiplications > MAX_MULTIPLICATIONS:
        raise ConvertError("a layer is too large to verify")


def _batch_norm(args: Sequence[Array], attrs: Attrs) -> Array:
    x, gamma, beta, mean, variance = args
    if attrs.get("is_training", True):
        raise ConvertError("a batch normalisation in training mode cannot be converted")
    is_same({**attrs, "padding": b"SAME"})
    scale = gamma / np.sqrt(variance + np.float32(attrs.get("epsilon", 1e-4)))
    return (x - mean) * scale + beta


def _elementwise(function: Callable[..., Array]) -> Kernel:
    def kernel(args: Sequence[Array], attrs: Attrs) -> Array:
        check_size(np.broadcast_shapes(*(arg.shape for arg in args)))
        return function(*args)

    return kernel


def axes(values: Array, rank: int) -> tuple[int, ...]:
    """The axis numbers of a file, sorted, with negative ones counted from the front."""
    numbers = sorted(
        {int(value) + rank if value < 0 else int(value) for value in values.reshape(-1)}
    )
    if any(not 0 <= axis < rank for axis in numbers):
        raise ConvertError(f"axes {values.tolist()} of {rank} dimensions")
    return tuple(numbers)


def _reduce(function: Callable[..., Array]) -> Kernel:
    def kernel(args: Sequence[Array], attrs: Attrs) -> Array:
        keep = bool(attrs.get("keep_dims"))
        return np.asarray(function(args[0], axis=axes(args[1], args[0].ndim), keepdims=keep))

    return kernel


def _softmax(args: Sequence[Array], attrs: Attrs) -> Array:
    raised = np.exp(args[0] - args[0].max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def _prelu(args: Sequence[Array], attrs: Attrs) -> Array:
    return np.where(args[0] > 0, args[0], args[0] * args[1])


def _concat(args: Sequence[Array], attrs: Attrs) -> Array:
    parts, axis = args[:-1], axes(args[-1], args[0].ndim)[0]
    return np.concatenate(parts, axis=axis)


def _pad(args: Sequence[Array], attrs: Attrs) -> Array:
    pairs = args[1].astype(np.int64)
    if pairs.shape != (args[0].ndim, 2) or (
        pairs.size and (pairs.min() < 0 or pairs.max() > 1 << 20)
    ):
        raise ConvertError(f"a padding of {args[1].tolist()}")
    check_size([size + int(sum(pair)) for size, pair in zip(args[0].shape, pairs, strict=True)])
    return np.pad(args[0], pairs)


def _reshape(args: Sequence[Array], attrs: Attrs) -> Array:
    check_size(args[1].shape)
    return args[0].reshape([int(size) for size in args[1].reshape(-1)])


def _squeeze(args: Sequence[Array], attrs: Attrs) -> Array:
    dims = attrs.get("squeeze_dims") or attrs.get("axis") or []
    ones = [i for i, size in enumerate(args[0].shape) if size == 1 and i > 0]
    return args[0].squeeze(axes(np.array(dims, np.int64), args[0].ndim) if dims else tuple(ones))


def _fill(args: Sequence[Array], attrs: Attrs) -> Array:
    shape = [int(size) for size in args[0].reshape(-1)]
    check_size(shape)
    return np.full(shape, args[1])


def _strided_slice(args: Sequence[Array], attrs: Attrs) -> Array:
    x, begin, end, step = args
    if attrs.get("ellipsis_mask") or attrs.get("new_axis_mask") or begin.size > x.ndim:
        raise ConvertError("this StridedSlice is not supported")
    picks: list[Any] = []
    for i in range(begin.size):
        if attrs.get("shrink_axis_mask", 0) >> i & 1:
            picks.append(int(begin[i]))
            continue
        first = None if attrs.get("begin_mask", 0) >> i & 1 else int(begin[i])
        last = None if attrs.get("end_mask", 0) >> i & 1 else int(end[i])
        picks.append(slice(first, last, int(step[i])))
    return np.asarray(x[tuple(picks)])


def _pack(args: Sequence[Array], attrs: Attrs) -> Array:
    return np.stack(args, axis=attrs.get("axis", 0))


def _cast(args: Sequence[Array], attrs: Attrs) -> Array:
    kinds: dict[Any, Any] = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_}
    if attrs.get("DstT") not in kinds:
        raise ConvertError("a Cast to this type is not supported")
    return args[0].astype(kinds[attrs["DstT"]])


def _same(args: Sequence[Array], attrs: Attrs) -> Array:
    return args[0]


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


KERNELS: dict[str, tuple[int, Kernel]] = {
    # operator: (number of inputs, 0 = any; function)
    "Identity": (1, _same), "StopGradient": (1, _same), "PlaceholderWithDefault": (1, _same),
    "Conv2D": (2, _conv), "DepthwiseConv2dNative": (2, _depthwise), "MatMul": (2, _matmul),
    "MaxPool": (1, _max_pool), "AvgPool": (1, _avg_pool),
    "FusedBatchNorm": (5, _batch_norm), "FusedBatchNormV2": (5, _batch_norm),
    "FusedBatchNormV3": (5, _batch_norm),
    "Add": (2, _elementwise(np.add)), "AddV2": (2, _elementwise(np.add)),
    "BiasAdd": (2, _elementwise(np.add)), "Sub": (2, _elementwise(np.subtract)),
    "Mul": (2, _elementwise(np.multiply)), "RealDiv": (2, _elementwise(np.divide)),
    "Div": (2, _elementwise(np.divide)), "Maximum": (2, _elementwise(np.maximum)),
    "Minimum": (2, _elementwise(np.minimum)), "Relu": (1, _elementwise(_relu)),
    "Relu6": (1, _elementwise(lambda x: np.clip(x, 0, 6))), "Abs": (1, _elementwise(np.abs)),
    "Neg": (1, _elementwise(np.negative)), "Exp": (1, _elementwise(np.exp)),
    "Sqrt": (1, _elementwise(np.sqrt)), "Square": (1, _elementwise(np.square)),
    "Rsqrt": (1, _elementwise(lambda x: 1 / np.sqrt(x))), "Tanh": (1, _elementwise(np.tanh)),
    "Sigmoid": (1, _elementwise(_sigmoid)), "Softmax": (1, _softmax), "Prelu": (2, _prelu),
    "Mean": (2, _reduce(np.mean)), "Sum": (2, _reduce(np.sum)), "Max": (2, _reduce(np.max)),
    "ConcatV2": (0, _concat), "Pad": (2, _pad), "Reshape": (2, _reshape), "Squeeze": (1, _squeeze),
    "ExpandDims": (2, lambda args, attrs: np.expand_dims(args[0], int(args[1]))),
    "Shape": (1, lambda args, attrs: np.array(args[0].shape, np.int32)),
    "Fill": (2, _fill), "StridedSlice": (4, _strided_slice), "Pack": (0, _pack),
    "Cast": (1, _cast), "LogicalNot": (1, _elementwise(np.logical_not)),
}  # fmt: skip


def compute(op: str, args: Sequence[Array], attrs: Attrs, at: str) -> Array:
    """The operator's value. Raises ConvertError with the name of the node for any failure."""
    if op not in KERNELS:
        raise ConvertError(f"the operator {op} (node '{at}') is not supported")
    expected, kernel = KERNELS[op]
    if (expected and len(args) != expected) or not args:
        raise ConvertError(f"{op} (node '{at}') has {len(args)} inputs")
    try:
        with np.errstate(all="ignore"):
            return np.asarray(kernel(args, attrs))
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
        shapes = [list(arg.shape) for arg in args]
        raise ConvertError(f"{op} (node '{at}') cannot take {shapes}: {error}") from error
    except ConvertError as error:
        raise ConvertError(f"{op} (node '{at}'): {error}") from error
