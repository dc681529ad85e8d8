"""MXNet's operators in NumPy (NCHW): the reference of a conversion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array
from compreface_convert.kernels import MAX_TAPS, check_size, check_work
from compreface_convert.mxnet_graph import Attrs

Kernel: TypeAlias = Callable[[Sequence[Array], Attrs], Array]

EPS: Final = 1e-3
"""MXNet's default epsilon of a batch norm; ONNX's is 1e-5."""
SLOPE: Final = 0.25
"""MXNet's default slope of a leaky ReLU; ONNX's is 0.01."""
L2_EPS: Final = 1e-10


def expect(condition: bool, text: str) -> None:
    if not condition:
        raise ConvertError(text)


def out_size(size: int, kernel: int, stride: int, pad: int, dilate: int, full: bool) -> int:
    """The output size of a window by MXNet's rule, rounded down ("valid") or up ("full")."""
    room = size + 2 * pad - ((kernel - 1) * dilate + 1)
    return (-(-room // stride) if full else room // stride) + 1


def _windows(
    x: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pad: tuple[int, int],
    dilate: tuple[int, int] = (1, 1),
    *,
    full: bool = False,
    fill: float = 0.0,
) -> Iterator[tuple[int, int, Array]]:
    """The strided view of the padded picture for each point of the window: row, column, view."""
    expect(x.ndim == 4, f"a window over {x.ndim} dimensions")
    expect(kernel[0] * kernel[1] <= MAX_TAPS, f"a window of {list(kernel)} is too large")
    outs = [out_size(x.shape[2 + i], kernel[i], stride[i], pad[i], dilate[i], full) for i in (0, 1)]
    expect(min(outs) >= 1, f"a window of {list(kernel)} does not fit into {list(x.shape)}")
    ends = [  # a window that is rounded up may reach beyond the padding
        max(pad[i], (outs[i] - 1) * stride[i] + (kernel[i] - 1) * dilate[i] + 1 - pad[i] - size)
        for i, size in enumerate(x.shape[2:])
    ]
    check_size([*x.shape[:2], *(x.shape[2 + i] + pad[i] + ends[i] for i in (0, 1))])
    if any((*pad, *ends)):
        pairs = [(0, 0), (0, 0), (pad[0], ends[0]), (pad[1], ends[1])]
        x = np.pad(x, pairs, constant_values=fill)
    for row in range(kernel[0]):
        for col in range(kernel[1]):
            top, left = row * dilate[0], col * dilate[1]
            yield (
                row,
                col,
                x[
                    :,
                    :,
                    top : top + (outs[0] - 1) * stride[0] + 1 : stride[0],
                    left : left + (outs[1] - 1) * stride[1] + 1 : stride[1],
                ],
            )


def _convolution(args: Sequence[Array], attrs: Attrs) -> Array:
    x, weights = args[:2]
    group = attrs.whole("num_group", 1)
    fits = x.ndim == weights.ndim == 4 and group >= 1 and weights.shape[0] % group == 0
    expect(
        fits and x.shape[1] == weights.shape[1] * group and 0 not in weights.shape,
        f"a convolution of {list(x.shape)} with {list(weights.shape)} in {group} groups",
    )
    kernel = (weights.shape[2], weights.shape[3])
    expect(attrs.sizes("kernel", kernel) == kernel, f"the weights are {list(weights.shape)}")
    stride, pad = attrs.pair("stride", 1, 1), attrs.pair("pad", 0, 0)
    views = _windows(x, kernel, stride, pad, attrs.pair("dilate", 1, 1))
    count, filters = len(x), weights.shape[0]
    out: Array = np.zeros(0)
    depthwise = group == filters == x.shape[1]
    grouped = weights.reshape(group, filters // group, *weights.shape[1:])
    for row, col, view in views:
        height, width = view.shape[2:]
        if not out.size:
            check_size([count, filters, height, width])
            check_work(count * height * width * weights.size)
            shape = (
                (count, filters, height, width) if depthwise else (count, group, -1, height * width)
            )
            out = np.zeros((count, filters, height, width), x.dtype).reshape(shape)
        if depthwise:
            out += view * weights[:, :, row, col].reshape(1, -1, 1, 1)
        else:
            out += grouped[..., row, col] @ view.reshape(count, group, -1, height * width)
    out = out.reshape(count, filters, height, width)
    bias = _bias(args, attrs)
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)


def _bias(args: Sequence[Array], attrs: Attrs) -> Array | None:
    if attrs.flag("no_bias", False):
        return None
    expect(len(args) == 3 and args[2].size == len(args[1]), "the bias does not fit the weights")
    return args[2]


def _dense(args: Sequence[Array], attrs: Attrs) -> Array:
    x, weights = args[:2]
    if attrs.flag("flatten", True):
        x = x.reshape(len(x), -1)
    expect(
        x.ndim == weights.ndim == 2 and x.shape[1] == weights.shape[1],
        f"a dense layer of {list(x.shape)} with {list(weights.shape)}",
    )
    check_work(len(x) * weights.size)
    bias = _bias(args, attrs)
    out = x @ weights.T
    return np.asarray(out if bias is None else out + bias)


def _batch_norm(args: Sequence[Array], attrs: Attrs) -> Array:
    x = args[0]
    channel_axis(attrs, x.ndim)
    sizes = [part.size for part in args[1:]]
    expect(sizes == [x.shape[1]] * 4, f"statistics of {sizes} for {list(x.shape)}")
    shape = (1, -1, *[1] * (x.ndim - 2))
    gamma, beta, mean, variance = (part.reshape(shape) for part in args[1:])
    if attrs.flag("fix_gamma", True):  # gamma is 1, whatever the file has
        gamma = np.ones_like(gamma)
    eps = np.float32(attrs.real("eps", EPS))
    return np.asarray((x - mean) * (gamma / np.sqrt(variance + eps)) + beta)


def channel_axis(attrs: Attrs, rank: int) -> None:
    """Raises ConvertError for a batch norm over another axis than the channels."""
    axis = attrs.whole("axis", 1)
    expect(rank >= 2 and axis in (1, 1 - rank), f"axis {axis} of {rank} dimensions")


def _activation(args: Sequence[Array], attrs: Attrs) -> Array:
    kind = attrs.text("act_type", "")
    expect(kind in ACTIVATIONS, f"the activation {kind[:40]!r} is not supported")
    return ACTIVATIONS[kind](args[0])


ACTIVATIONS: Final[Mapping[str, Callable[[Array], Array]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softrelu": lambda x: np.logaddexp(x, 0, dtype=x.dtype),
    "softsign": lambda x: x / (1 + np.abs(x)),
}


def _leaky(args: Sequence[Array], attrs: Attrs) -> Array:
    x, kind = args[0], attrs.text("act_type", "leaky")
    if kind == "prelu":
        expect(len(args) == 2, "a PReLU needs its slope")
        slope = args[1].reshape(-1)
        expect(x.ndim >= 2 and slope.size in (1, x.shape[1]), f"{slope.size} slopes")
        return np.where(x > 0, x, x * slope.reshape(-1, *[1] * (x.ndim - 2)))
    factor = np.float32(attrs.real("slope", SLOPE))
    if kind == "elu":
        return np.where(x > 0, x, factor * np.expm1(x))
    expect(kind == "leaky", f"the activation {kind[:40]!r} is not supported")
    return np.where(x > 0, x, x * factor)


def _pooling(args: Sequence[Array], attrs: Attrs) -> Array:
    x, kind = args[0], attrs.text("pool_type", "max")
    expect(kind in ("max", "avg"), f"the pooling {kind[:40]!r} is not supported")
    expect(x.ndim == 4, f"a pooling of {x.ndim} dimensions")
    if attrs.flag("global_pool", False):
        return np.asarray((np.max if kind == "max" else np.mean)(x, axis=(2, 3), keepdims=True))
    kernel, full = attrs.pair("kernel", 0, 1), is_full(attrs)
    stride, pad = attrs.pair("stride", 1, 1), attrs.pair("pad", 0, 0)
    if kind == "max":
        fill = float("-inf")
        views = [v for _, _, v in _windows(x, kernel, stride, pad, full=full, fill=fill)]
        return np.maximum.reduce(views) if len(views) > 1 else views[0].copy()
    total = sum(view for _, _, view in _windows(x, kernel, stride, pad, full=full))
    ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if attrs.flag("count_include_pad", True):  # but never what is beyond the padding
        ones = np.pad(ones, [(0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2], constant_values=1)
        pad = (0, 0)
    return np.asarray(
        total / sum(view for _, _, view in _windows(ones, kernel, stride, pad, full=full))
    )


def is_full(attrs: Attrs) -> bool:
    """Whether a pooling rounds its output size up."""
    convention = attrs.text("pooling_convention", "valid")
    known = convention in ("valid", "full")
    expect(known, f"the pooling convention {convention[:40]!r} is not supported")
    return convention == "full"


def _flatten(args: Sequence[Array], attrs: Attrs) -> Array:
    return args[0].reshape(len(args[0]), -1)


def _concat(args: Sequence[Array], attrs: Attrs) -> Array:
    return np.concatenate(args, axis=attrs.whole("dim", 1))


def reshape_target(attrs: Attrs) -> tuple[int, ...]:
    """The target shape: 0 keeps the input's size, -1 is what remains, as in ONNX."""
    target = attrs.sizes("shape", ())
    fits = bool(target) and min(target) >= -1 and target.count(-1) <= 1
    expect(fits and not attrs.flag("reverse", False), f"the shape {list(target)} is not supported")
    expect(target[0] <= 0, f"the shape {list(target)} fixes the batch")
    return target


def _reshape(args: Sequence[Array], attrs: Attrs) -> Array:
    x, target = args[0], reshape_target(attrs)
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(target)])


def _softmax_over(x: Array, axis: int) -> Array:
    raised = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(raised / raised.sum(axis=axis, keepdims=True))


def _softmax_activation(args: Sequence[Array], attrs: Attrs) -> Array:
    mode, x = attrs.text("mode", "instance"), args[0]
    expect(mode in ("instance", "channel"), f"the mode {mode[:40]!r} is not supported")
    if mode == "instance":
        return _softmax_over(x.reshape(len(x), -1), 1).reshape(x.shape)
    return _softmax_over(x, 1)


def _softmax_output(args: Sequence[Array], attrs: Attrs) -> Array:
    expect(
        args[0].ndim == 2 or attrs.flag("multi_output", False),
        "this SoftmaxOutput is not supported",
    )
    return _softmax_over(args[0], 1)


def _softmax(args: Sequence[Array], attrs: Attrs) -> Array:
    expect(
        "temperature" not in attrs.texts or attrs.text("temperature", "") == "None",
        "a softmax with a temperature is not supported",
    )
    return _softmax_over(args[0], attrs.whole("axis", -1))


def _upsampling(args: Sequence[Array], attrs: Attrs) -> Array:
    scale = upsampling_scale(attrs, len(args))
    expect(args[0].ndim == 4, f"an upsampling of {args[0].ndim} dimensions")
    check_size([*args[0].shape, scale, scale])
    return args[0].repeat(scale, axis=2).repeat(scale, axis=3)


def upsampling_scale(attrs: Attrs, inputs: int) -> int:
    scale, kind = attrs.whole("scale", 0), attrs.text("sample_type", "")
    expect(kind == "nearest" and inputs == 1, f"the upsampling {kind[:40]!r} is not supported")
    expect(1 <= scale <= 64, f"the scale {scale} is not supported")
    return scale


def _crop(args: Sequence[Array], attrs: Attrs) -> Array:
    top, left = crop_offset(args, attrs)
    height, width = args[1].shape[2:]
    cut = args[0][:, :, top : top + height, left : left + width]
    expect(cut.shape[2:] == (height, width), f"{list(args[0].shape)} is smaller than the crop")
    return cut


def crop_offset(args: Sequence[Any], attrs: Attrs) -> tuple[int, int]:
    """Top and left of the crop of the first input to the second's size."""
    expect(len(args) == 2, "a Crop without a second input is not supported")
    expect(not attrs.flag("center_crop", False), "a Crop from the centre is not supported")
    return attrs.pair("offset", 0, 0)


def _l2(args: Sequence[Array], attrs: Attrs) -> Array:
    x = args[0]
    total = np.square(x).sum(axis=l2_axes(attrs, x.ndim), keepdims=True)
    return np.asarray(x / np.sqrt(total + np.float32(attrs.real("eps", L2_EPS))))


def l2_axes(attrs: Attrs, rank: int) -> tuple[int, ...]:
    mode = attrs.text("mode", "instance")
    if mode == "channel":
        return (1,)
    expect(mode in ("instance", "spatial"), f"the mode {mode[:40]!r} is not supported")
    return tuple(range(1 if mode == "instance" else 2, rank))


def _clip(args: Sequence[Array], attrs: Attrs) -> Array:
    return np.clip(args[0], np.float32(attrs.real("a_min", 0)), np.float32(attrs.real("a_max", 0)))


def _scalar(function: Callable[..., Array]) -> Kernel:
    def kernel(args: Sequence[Array], attrs: Attrs) -> Array:
        return function(args[0], np.float32(attrs.real("scalar", 0)))

    return kernel


def _pairwise(function: Callable[..., Array]) -> Kernel:
    def kernel(args: Sequence[Array], attrs: Attrs) -> Array:
        check_size(np.broadcast_shapes(*(arg.shape for arg in args)))
        return function(*args)

    return kernel


def _add_n(args: Sequence[Array], attrs: Attrs) -> Array:
    expect(len({arg.shape for arg in args}) == 1, "a sum of different shapes")
    return np.asarray(sum(args[1:], args[0]))


KERNELS: Final[Mapping[str, tuple[tuple[int, ...], Kernel]]] = {
    # operator: (numbers of inputs it can have, none = any; meaning)
    "Convolution": ((2, 3), _convolution), "FullyConnected": ((2, 3), _dense),
    "BatchNorm": ((5,), _batch_norm), "Activation": ((1,), _activation),
    "relu": ((1,), lambda args, attrs: ACTIVATIONS["relu"](args[0])),
    "sigmoid": ((1,), lambda args, attrs: ACTIVATIONS["sigmoid"](args[0])),
    "LeakyReLU": ((1, 2), _leaky), "Pooling": ((1,), _pooling), "Flatten": ((1,), _flatten),
    "Concat": ((), _concat), "Reshape": ((1,), _reshape), "clip": ((1,), _clip),
    "SoftmaxActivation": ((1,), _softmax_activation), "SoftmaxOutput": ((1,), _softmax_output),
    "softmax": ((1,), _softmax), "UpSampling": ((1,), _upsampling),
    "Crop": ((2,), _crop), "L2Normalization": ((1,), _l2),
    "elemwise_add": ((2,), _pairwise(np.add)), "elemwise_sub": ((2,), _pairwise(np.subtract)),
    "elemwise_mul": ((2,), _pairwise(np.multiply)), "add_n": ((), _add_n),
    "_plus_scalar": ((1,), _scalar(np.add)), "_minus_scalar": ((1,), _scalar(np.subtract)),
    "_mul_scalar": ((1,), _scalar(np.multiply)), "_div_scalar": ((1,), _scalar(np.divide)),
}  # fmt: skip


def compute(op: str, args: Sequence[Array], attrs: Attrs, at: str) -> Array:
    """The operator's value. Raises ConvertError with the name of the node for any failure."""
    if op not in KERNELS:
        raise ConvertError(f"the operator {op} (node '{at}') is not supported")
    counts, kernel = KERNELS[op]
    if (counts and len(args) not in counts) or not args:
        raise ConvertError(f"{op} (node '{at}') has {len(args)} inputs")
    try:
        with np.errstate(all="ignore"):
            out = np.asarray(kernel(args, attrs))
            check_size(out.shape)
            expect(math.prod(out.shape) > 0, "the result is empty")
            return out
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError) as error:
        shapes = [list(arg.shape) for arg in args]
        raise ConvertError(f"{op} (node '{at}') cannot take {shapes}: {error}") from error
    except ConvertError as error:
        raise ConvertError(f"{op} (node '{at}'): {error}") from error
