"""Makes a prepared model's folder from an entry and its file: whole and proven, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from compreface_engine.convert import onnx_file
from compreface_engine.convert.answers import OriginalSession, known_answers
from compreface_engine.convert.emit import Form, emit, to_bytes
from compreface_engine.convert.errors import ConvertError
from compreface_engine.convert.evaluate import run, specialise
from compreface_engine.convert.graph import Array, Graph
from compreface_engine.convert.graphdef import read_graphdef
from compreface_engine.convert.proof import Proof, prove, session
from compreface_engine.convert.simplify import simplify
from compreface_engine.convert.spec import ModelSpec, read_source, read_spec
from compreface_engine.convert.tflite import read_tflite

SCHEMA: Final = 1
TOLERANCE: Final = 1e-4
"""Allowed difference, in shares of the largest value of the embedding (at least 1)."""
MIN_COSINE: Final = 0.99999
_INPUTS: Final = ("input", "image_batch")  # FaceNet's published graphs
_OUTPUT: Final = "embeddings"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Converted:
    """ONNX candidates, best first, and the original as a function [N, 3, S, S] -> [N, D]."""

    candidates: tuple[bytes, ...]
    original: Callable[[Array], Array]


def prepare(
    spec_path: Path, sources: Sequence[Path], out: Path, portrait: Path | None, say: Say
) -> dict[str, Any]:
    """Writes `out`/NAME/ and returns its model.json. Raises ConvertError, leaving nothing."""
    spec = read_spec(spec_path)
    data, sha256 = read_source(spec, sources)
    say(f"reading {spec.files[0].path} ({spec.format}, {len(data)} bytes)")
    converted = convert(spec, data)
    dimension = _dimension(spec, converted)
    original = OriginalSession(converted.original)
    answers = {}
    if portrait is not None:
        say("computing the known answer of the portrait with the original file")
        answers = known_answers(spec, original, dimension, portrait)
    model, proof = _proven(spec, converted, original.seen, say)
    described = {
        "schema": SCHEMA,
        "name": spec.name,
        "role": "calculator",
        "file": "model.onnx",
        "sha256": hashlib.sha256(model).hexdigest(),
        "source": {"format": spec.format, "sha256": sha256, "path": spec.files[0].path},
        "input": {
            "size": spec.inputs.size,
            "layout": "nchw",
            "colour": spec.inputs.colour,
            "mean": _plain(spec.inputs.mean),
            "scale": _plain(spec.inputs.scale),
        },
        "align": spec.align.value,
        "similarity": list(spec.similarity),
        "dimension": dimension,
        "proof": proof.as_json(),
        "known_answers": answers,
    }
    _write(out, spec.name, model, described)
    say(f"{spec.name} is prepared in {out / spec.name}")
    return described


def convert(spec: ModelSpec, data: bytes) -> Converted:
    """The entry's file as ONNX, not yet proven."""
    if spec.format == "onnx":
        return _from_onnx(spec, data)
    if spec.format == "tflite":
        return _from_graph(spec, read_tflite(data))
    return _from_graph(spec, read_graphdef(data, inputs=_INPUTS, outputs=(_OUTPUT,)))


def _from_graph(spec: ModelSpec, graph: Graph) -> Converted:
    name, shape = next(iter(graph.inputs.items()))
    size = spec.inputs.size
    if shape and (
        len(shape) != 4
        or any(
            side not in (None, want) for side, want in zip(shape[1:], (size, size, 3), strict=True)
        )
    ):
        raise ConvertError(f"the input '{name}' has the shape {list(shape)}, not {size}x{size}x3")
    if len(graph.outputs) != 1:
        raise ConvertError(f"the network has {len(graph.outputs)} outputs; a calculator has one")
    traced = simplify(specialise(graph), (size, size, 3))
    if len(traced.shapes[traced.graph.outputs[0]]) != 2:
        raise ConvertError("the output is no vector a picture")
    made = to_bytes(emit(traced, Form((size, size, 3), (_OUTPUT,))))

    def original(batch: Array) -> Array:
        return run(graph, {name: np.ascontiguousarray(batch.transpose(0, 2, 3, 1))})[0]

    return Converted((made,), original)


def _from_onnx(spec: ModelSpec, data: bytes) -> Converted:
    size, layout = spec.inputs.size, spec.inputs.layout
    info = onnx_file.inspect(onnx_file.parse(data), data, size, layout)
    runner = session(data)

    def original(batch: Array) -> Array:
        fed = batch if layout == "nchw" else np.ascontiguousarray(batch.transpose(0, 2, 3, 1))
        step = info.batch or len(fed)
        rows = []
        for start in range(0, len(fed), step):
            part = fed[start : start + step]
            filled = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
            try:
                found = runner.run([info.output], {info.input: filled})[0]
            except Exception as error:  # ONNX Runtime's exceptions share no public base class
                raise ConvertError(f"ONNX Runtime cannot run the file: {error}") from error
            rows.append(np.asarray(found)[: len(part)])
        return np.concatenate(rows)

    candidates = []
    for rewrite in (True, False):
        model = onnx_file.parse(data)
        onnx_file.free_batch(model, info)
        if rewrite and not onnx_file.fast_prelu(model):
            continue
        if layout == "nhwc":
            onnx_file.nchw_input(model, info, size)
        candidates.append(to_bytes(model))
    return Converted(tuple(candidates), original)


def _dimension(spec: ModelSpec, converted: Converted) -> int:
    """The length of the embedding, from one run of the original."""
    found = converted.original(np.zeros((1, 3, spec.inputs.size, spec.inputs.size), np.float32))
    if found.ndim != 2 or len(found) != 1:
        raise ConvertError(f"the output has the shape {list(found.shape)}, not [N, values]")
    return int(found.shape[1])


def _proven(
    spec: ModelSpec, converted: Converted, seen: Sequence[Array], say: Say
) -> tuple[bytes, Proof]:
    """The first candidate that holds. Raises the last one's ConvertError if none does."""
    batches = [*_random_batches(spec), *seen]
    failure = ConvertError("the conversion gave nothing")
    for candidate in converted.candidates:
        try:
            runner = session(candidate)
            name = runner.get_inputs()[0].name

            def converted_run(batch: Array, runner: Any = runner, name: str = name) -> list[Array]:
                try:
                    return [np.asarray(runner.run(None, {name: batch})[0])]
                except Exception as error:  # as above
                    raise ConvertError(
                        "the batch of the network is fixed and could not be made free: "
                        f"{str(error).splitlines()[0]}"
                    ) from error

            proof = prove(
                lambda batch: [converted.original(batch)],
                converted_run,
                batches,
                tolerance=TOLERANCE,
                relative=True,
                min_cosine=MIN_COSINE,
            )
        except ConvertError as error:
            failure = error
            continue
        say(
            f"proven on {proof.inputs} inputs: largest difference {proof.max_abs_difference:.2g} "
            f"(allowed {proof.tolerance:.2g}), lowest cosine {proof.min_cosine:.7f}"
        )
        return candidate, proof
    raise failure


def _random_batches(spec: ModelSpec) -> list[Array]:
    """Seeded noise and smooth pictures through the entry's own normalisation, NCHW."""
    rng = np.random.default_rng(11)
    size = spec.inputs.size
    noise = rng.integers(0, 256, (2, size, size, 3), np.uint8)
    waves = np.cumsum(np.cumsum(rng.standard_normal((3, size, size, 3)), axis=1), axis=2)
    smooth = (127.5 + 127.5 * np.tanh(waves / size)).astype(np.uint8)
    return [_nchw(spec, crops) for crops in (noise, smooth)]


def _nchw(spec: ModelSpec, crops: Any) -> Array:
    tensor = spec.inputs.tensor(crops)
    moved = tensor if spec.inputs.layout == "nchw" else tensor.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(moved)


def _plain(value: tuple[float, float, float] | None) -> float | list[float] | None:
    if value is None or len(set(value)) == 1:
        return None if value is None else value[0]
    return list(value)


def _write(out: Path, name: str, model: bytes, described: dict[str, Any]) -> None:
    """The folder appears under its name only when it is complete; an older one is replaced."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=out))
    except OSError as error:
        raise ConvertError(f"{out} cannot be written: {error}") from error
    try:
        (part / "model.onnx").write_bytes(model)
        text = json.dumps(described, indent=1, ensure_ascii=False)
        (part / "model.json").write_text(text + "\n", encoding="utf-8")
        part.chmod(0o755)
        target, old = out / name, part.with_name(part.name + ".old")
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(part, target)
        except OSError:
            if old.exists():
                os.rename(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise ConvertError(f"{out / name} cannot be written: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
