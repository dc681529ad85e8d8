"""Files that stand in for public weights: real ones where they are at hand, else seeded networks.

A seeded calculator tells the two portraits of `cf` apart, as a trained one does: its last layer is
centred between their embeddings.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compreface_convert.emit import to_bytes
from compreface_convert.mxnet_emit import emit
from compreface_convert.mxnet_symbol import read_mxnet
from compreface_convert.proof import run_onnx
from compreface_convert.sstable import read_table
from compreface_convert.tensorflow_proto import parse
from compreface_engine.core.geometry import aligned_crop
from compreface_engine.core.image import decode
from compreface_engine.plugins import registry
from compreface_engine.plugins.context import Context
from compreface_engine.runtimes.onnxruntime import OnnxSession
from tests.convert import mxnet_small, tensor_tables
from tests.convert.facenet_names import state_dict
from tests.convert.mxnet_small import Line, norm
from tests.convert.tensor_tables import field
from tests.convert.test_gluon import weights as gluon_weights
from tests.convert.test_saved_model import call, function, node, tensor_info
from tests.convert.torch_files import saved
from tests.e2e.machine import PORTRAITS
from tests.engine.seeded_networks import rows
from tests.frameworks import seeded
from tests.shared import ROOT, shared

RECORDINGS = ROOT / "tests" / "convert" / "recordings"
R50, R100 = (3, 4, 14, 3), (3, 13, 30, 3)  # residual units of InsightFace's ResNets
SMALL = (1, 1, 1, 1)
_DEPTHS = (64, 128, 256, 512)


def real(*parts: str) -> bytes:
    return shared("models", *parts).read_bytes()


# --- InsightFace's ResNets ------------------------------------------------------------------------


class _Residual:
    """InsightFace's ResNet for 112 x 112 pixels, [N, 512], as MXNet describes it; seeded."""

    def __init__(self, units: Sequence[int], *, thin: int, normalise: bool) -> None:
        self._rng = np.random.default_rng(len(units) + sum(units))
        self.lines: list[Line] = []
        self.arrays: dict[str, Any] = {}
        x = "data"
        if normalise:
            self.lines += [("_minus_scalar", "minus", [x], {"scalar": "127.5"})]
            self.lines += [("_mul_scalar", "times", ["minus"], {"scalar": "0.0078125"})]
            x = "times"
        depths = [depth // thin for depth in _DEPTHS]
        x = self._prelu(self._norm(self._conv(x, "conv0", 3, depths[0]), "bn0", depths[0]), "relu0")
        width = depths[0]
        for stage, (count, depth) in enumerate(zip(units, depths, strict=True), start=1):
            for unit in range(1, count + 1):
                name = f"stage{stage}_unit{unit}"
                x = self._unit(x, name, width, depth, stride=2 if unit == 1 else 1)
                width = depth
        x = self._norm(x, "bn1", width)
        inside = width * 7 * 7
        self.arrays["pre_fc1_weight"] = self._random((512, inside), inside)
        self.arrays["pre_fc1_bias"] = np.zeros(512, np.float32)
        ends = [x, "pre_fc1_weight", "pre_fc1_bias"]
        self.lines.append(("FullyConnected", "pre_fc1", ends, {"num_hidden": "512"}))
        self._norm("pre_fc1", "fc1", 512)

    def _random(self, shape: tuple[int, ...], inputs: int) -> NDArray[np.float32]:
        scale = np.float32((1.0 / inputs) ** 0.5)
        return self._rng.standard_normal(shape, np.float32) * scale

    def _conv(self, x: str, name: str, side: int, depth: int, *, stride: int = 1) -> str:
        width = self._width(x)
        self.arrays[f"{name}_weight"] = self._random((depth, width, side, side), width * side**2)
        attrs = {
            "kernel": f"({side}, {side})", "num_filter": str(depth), "no_bias": "True",
            "stride": f"({stride}, {stride})", "pad": f"({side // 2}, {side // 2})",
        }  # fmt: skip
        self.lines.append(("Convolution", name, [x, f"{name}_weight"], attrs))
        return name

    def _width(self, x: str) -> int:
        """Channels of a value: those of the last batch norm or convolution on its way."""
        if x in ("data", "times"):
            return 3
        lines = {name: (op, inputs) for op, name, inputs, _ in self.lines}
        while True:
            op, inputs = lines[x]
            if op in ("Convolution", "BatchNorm"):
                key = f"{x}_weight" if op == "Convolution" else f"{x}_gamma"
                return int(self.arrays[key].shape[0])
            x = inputs[0]

    def _norm(self, x: str, name: str, channels: int) -> str:
        kinds = {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_var": 1}
        for kind, value in kinds.items():
            self.arrays[f"{name}_{kind}"] = np.full(channels, value, np.float32)
        self.lines.append(norm(x, name, eps="2e-05", fix_gamma="False", momentum="0.9"))
        return name

    def _prelu(self, x: str, name: str) -> str:
        self.arrays[f"{name}_gamma"] = np.full(self._width(x), 0.25, np.float32)
        self.lines.append(("LeakyReLU", name, [x, f"{name}_gamma"], {"act_type": "prelu"}))
        return name

    def _unit(self, x: str, name: str, width: int, depth: int, *, stride: int) -> str:
        y = self._norm(x, f"{name}_bn1", width)
        y = self._norm(self._conv(y, f"{name}_conv1", 3, depth), f"{name}_bn2", depth)
        y = self._conv(self._prelu(y, f"{name}_relu1"), f"{name}_conv2", 3, depth, stride=stride)
        y = self._norm(y, f"{name}_bn3", depth)
        self.arrays[f"{name}_bn3_gamma"] *= np.float32(0.2)  # so that 50 units stay finite
        if stride == 2:
            x = self._conv(x, f"{name}_conv1sc", 1, depth, stride=2)
            x = self._norm(x, f"{name}_sc", depth)
        self.lines.append(("elemwise_add", f"{name}_plus", [y, x], {}))
        return f"{name}_plus"

    def files(self) -> tuple[bytes, bytes]:
        """The symbol and its parameters."""
        named = {
            f"{'aux' if 'moving' in name else 'arg'}:{name}": value
            for name, value in self.arrays.items()
        }
        return mxnet_small.symbol(*self.lines), mxnet_small.params(named)

    def centred(self, colour: str, mean: float, scale: float) -> _Residual:
        """With the two portraits on opposite sides of the origin."""
        (seen,) = run_onnx(_as_onnx(self), _portraits(colour, mean, scale), ["fc1"])
        middle, spread = seen.mean(axis=0), np.abs(seen[0] - seen[1]) / 2
        self.arrays["fc1_moving_mean"] = middle.astype(np.float32)
        self.arrays["fc1_moving_var"] = np.full(512, (spread**2).mean(), np.float32)
        return self


def _as_onnx(network: _Residual) -> bytes:
    read = read_mxnet(mxnet_small.symbol(*network.lines), network.arrays, cut=True)
    return to_bytes(emit(read, (3, 112, 112), free_size=False))


def _portraits(colour: str, mean: float, scale: float) -> NDArray[np.float32]:
    """[2, 3, 112, 112] of the portraits' aligned faces, as such a network is fed."""
    context = Context(
        open_session=lambda path: OnnxSession(path, threads=1), models_dir=None, length_limit=640
    )
    detector = registry.detector("embedded.FaceDetector@mtcnn", context)
    crops = []
    for path in sorted(PORTRAITS.glob("*.[jp][pn]g")):
        image = decode(path.read_bytes(), max_pixels=10**7).image
        (face, *_) = detector.detect([image], min_score=detector.default_min_score)[0]
        assert face.landmarks is not None
        crop = aligned_crop(image, face.landmarks, 112).astype(np.float32)
        crops.append(crop[:, :, ::-1] if colour == "bgr" else crop)
    assert len(crops) == 2
    return ((np.stack(crops).transpose(0, 3, 1, 2) - mean) / scale).astype(np.float32)


def arcface_mxnet(units: Sequence[int], *, thin: int) -> tuple[bytes, bytes]:
    """CompreFace's: fed blue first from 0 to 255, normalised in the graph."""
    return _Residual(units, thin=thin, normalise=True).centred("bgr", 0, 1).files()


def arcface_onnx(units: Sequence[int], *, thin: int) -> bytes:
    """InsightFace's and AuraFace's: fed red first, from -1 to 1."""
    return _as_onnx(_Residual(units, thin=thin, normalise=False).centred("rgb", 127.5, 127.5))


# --- the others -----------------------------------------------------------------------------------


def sface() -> bytes:
    """A trained MobileFaceNet of 128 values that normalises in its graph, as SFace does."""
    model = onnx.load_from_string(real("embedded", "mobilefacenet128_fp32.onnx"))
    name = model.graph.input[0].name
    for made in model.graph.node:
        made.input[:] = ["normalised" if each == name else each for each in made.input]
    mean, scale = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    for key, value in (("of_mean", mean), ("of_scale", scale)):
        array = np.array(value, np.float32).reshape(1, 3, 1, 1)
        model.graph.initializer.append(numpy_helper.from_array(array, key))
    model.graph.node.insert(0, helper.make_node("Sub", [name, "of_mean"], ["centred"]))
    model.graph.node.insert(1, helper.make_node("Div", ["centred", "of_scale"], ["normalised"]))
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def genderage() -> bytes:
    return rows(96, 3, scale=0.003)


def facenet_state_dict() -> bytes:
    """FaceNet's real weights, as facenet-pytorch saves them."""
    from compreface_convert.graphdef import read_graphdef

    graph = read_graphdef(
        real("facenet", "20180402-114759.pb"), inputs=("input",), outputs=("embeddings",)
    )
    return saved(state_dict(graph.constants), old=True)


def gluon_mask() -> bytes:
    return mxnet_small.params(gluon_weights("mobilenet_v2", 0))


def inception_checkpoint(labels: int) -> tuple[bytes, bytes]:
    """Index and data of a TensorFlow checkpoint of Inception v3 with so many labels; seeded."""
    with zipfile.ZipFile(RECORDINGS / "inception_v3_age.zip") as packed:
        (index,) = (packed.read(each) for each in packed.namelist() if each.endswith(".index"))
    entries, data = {b"": tensor_tables.header()}, io.BytesIO()
    for key, value in sorted(read_table(index).items()):
        known = parse("BundleEntryProto", value)
        if not key or known.dtype != 1:
            continue
        dims = [dim.size for dim in known.shape.dim]
        if key.startswith(b"output/"):
            dims[-1] = labels
        raw = seeded.values(key.decode(), dims).tobytes()
        entries[key] = tensor_tables.entry(raw, tuple(dims), offset=data.tell())
        data.write(raw)
    return tensor_tables.table(entries), data.getvalue()


def saved_mask() -> dict[str, bytes]:
    """A SavedModel with CompreFace's input and three labels: a mean over the picture, one layer."""
    shape = field(7, tensor_tables.shape(3, 3))
    axes = field(1, 3) + field(2, tensor_tables.shape(2)) + field(4, struct.pack("<2i", 1, 2))
    serving = function(
        "serving", "x v", {"out": "softmax:softmax:0"},
        node("axes", "Const", value=field(8, axes)),
        node("mean", "Mean", "x", "axes:output:0"),
        node("read", "ReadVariableOp", "v"),
        node("product", "MatMul", "mean:output:0", "read:value:0"),
        node("softmax", "Softmax", "product:product:0"),
    )  # fmt: skip
    names = field(1, 7) + field(2, tensor_tables.shape(1)) + field(8, b"scale")
    slices = field(1, 7) + field(2, tensor_tables.shape(1)) + field(8, b"")
    restore = function(
        "restore", "prefix v", {},
        node("names", "Const", value=field(8, names)),
        node("slices", "Const", value=field(8, slices)),
        node("read", "RestoreV2", "prefix", "names:output:0", "slices:output:0"),
        node("same", "Identity", "read:tensors:0"),
        node("set", "AssignVariableOp", "v", "same:output:0"),
    )  # fmt: skip
    nodes = [
        node("in", "Placeholder"), node("saver", "Placeholder"),
        node("var", "VarHandleOp", shape=shape),
        call("call", "serving", "in", "var"), call("call_restore", "restore", "saver", "var"),
    ]  # fmt: skip
    graph = b"".join(field(1, each) for each in nodes) + field(2, serving + restore)
    info = field(1, b"in:0") + field(2, 1) + field(3, tensor_tables.shape(-1, 100, 100, 3))
    inputs = field(1, field(1, b"x") + field(2, info))
    signed = inputs + field(2, field(1, b"score") + field(2, tensor_info("call")))
    meta = field(1, field(4, b"serve")) + field(2, graph) + field(3, field(3, b"call_restore"))
    meta += field(5, field(1, b"serving_default") + field(2, signed))
    weights = seeded.values("mask", (3, 3)).tobytes()
    index = {b"": tensor_tables.header(), b"scale": tensor_tables.entry(weights, (3, 3))}
    return {
        "saved_model.pb": field(2, meta),
        "variables/variables.index": tensor_tables.table(index),
        "variables/variables.data-00000-of-00001": weights,
    }
