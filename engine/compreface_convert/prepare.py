"""Prepares a model: converts its files, verifies the result and writes its folder as a whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from compreface_convert.answers import OriginalSession, known_answers
from compreface_convert.errors import ConvertError
from compreface_convert.formats import Converted, convert
from compreface_convert.graph import Array
from compreface_convert.spec import ModelSpec, Source, read_sources, read_spec
from compreface_convert.verify import Say, batches, read_portrait, verified

SCHEMA: Final = 1


def prepare(
    spec_path: Path,
    sources: Sequence[Path],
    out: Path,
    portrait: Path | None,
    say: Say,
    *,
    keep_source: bool = False,
) -> dict[str, Any]:
    """Write the folder `out`/NAME, and return its model.json.

    `keep_source` copies the source files to `out`/NAME/source. Raises ConvertError, and leaves
    nothing behind then.
    """
    spec = read_spec(spec_path)
    files = read_sources(spec, sources)
    picture = None if portrait is None else read_portrait(portrait)
    say(f"reading {', '.join(source.name for source in files)} ({spec.format})")
    converted = convert(spec, files)
    seen: list[Array] = []
    embedding: dict[str, Any] = {}
    answers: dict[str, Any] = {}
    if spec.align is not None and spec.similarity is not None:
        dimension = _dimension(spec, converted)
        embedding = {
            "align": spec.align.value,
            "similarity": list(spec.similarity),
            "dimension": dimension,
        }
        if picture is not None:
            say("computing the known answer of the portrait with the original file")
            original = OriginalSession(converted.original)
            answers = known_answers(spec, original, dimension, picture)
            seen = original.seen
    candidate, proof = verified(spec, converted, [*batches(spec, converted, picture), *seen], say)
    described = {
        "schema": SCHEMA,
        "name": spec.name,
        "role": spec.role,
        "file": "model.onnx",
        "sha256": hashlib.sha256(candidate.data).hexdigest(),
        "source": {
            "format": spec.format,
            "sha256": files[0].sha256,
            "path": spec.files[0].path,
            **({"network": spec.network} if spec.network else {}),
            **({"files": [_named(source) for source in files]} if keep_source else {}),
        },
        "input": {
            "size": spec.inputs.size or None,
            "layout": "nchw",
            "colour": spec.inputs.colour,
            "mean": _plain(spec.inputs.mean),
            "scale": _plain(spec.inputs.scale),
        },
        "batch": candidate.batch,
        "outputs": list(converted.outputs),
        **embedding,
        "proof": proof.as_json(),
        **({"known_answers": answers} if embedding else {}),
    }
    _write(out, spec.name, candidate.data, described, files if keep_source else ())
    say(f"{spec.name} is prepared in {out / spec.name}")
    return described


def _named(source: Source) -> dict[str, str]:
    return {"name": source.name, "sha256": source.sha256}


def _dimension(spec: ModelSpec, converted: Converted) -> int:
    """The length of the embedding, from a run of the original."""
    embedding = converted.original(
        np.zeros((1, 3, spec.inputs.size, spec.inputs.size), np.float32)
    )[0]
    if embedding.ndim != 2 or len(embedding) != 1:
        raise ConvertError(f"the output has the shape {list(embedding.shape)}, not [N, values]")
    return int(embedding.shape[1])


def _plain(value: tuple[float, float, float] | None) -> float | list[float] | None:
    if value is None or len(set(value)) == 1:
        return None if value is None else value[0]
    return list(value)


def _write(
    out: Path, name: str, model: bytes, described: dict[str, Any], kept: Sequence[Source]
) -> None:
    """Write the folder under another name, then rename it; an older folder is replaced."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=out))
    except OSError as error:
        raise ConvertError(f"{out} cannot be written: {error}") from error
    try:
        (part / "model.onnx").write_bytes(model)
        text = json.dumps(described, indent=1, ensure_ascii=False)
        (part / "model.json").write_text(text + "\n", encoding="utf-8")
        for source in kept:
            (part / "source").mkdir(exist_ok=True)
            shutil.copyfile(source.path, part / "source" / source.name)
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
