"""What a model entry says about its files, its input and its use; read from SPEC.json."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from compreface_engine.convert.errors import ConvertError
from compreface_engine.core.types import Align
from compreface_engine.plugins.inputs import InputSpec, PerChannel

FORMATS: Final = ("onnx", "tensorflow-graph", "tflite")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_MAX_SIDE: Final = 1024


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One source file: its name in the entry, and its SHA-256 (None: any)."""

    path: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model entry. `inputs` describes the source file's input."""

    name: str
    format: str
    inputs: InputSpec
    align: Align
    similarity: tuple[float, float]
    files: tuple[ModelFile, ...]


def read_spec(path: Path) -> ModelSpec:
    """The entry in a JSON file. Raises ConvertError that names the wrong field."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConvertError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConvertError(f"{path} holds no object")
    name = _field(found, "name", str)
    if not _NAME.fullmatch(name):
        raise ConvertError(f"`name` {name!r}: use letters, digits, '-' and '_'")
    if found.get("role", "calculator") != "calculator":
        raise ConvertError("`role` must be calculator in this version")
    if found.get("format") not in FORMATS:
        raise ConvertError(f"`format` must be one of {', '.join(FORMATS)}")
    similarity = _numbers(found.get("similarity"), "similarity", 2)
    try:
        align = Align(found.get("align"))
    except ValueError as error:
        choices = ", ".join(item.value for item in Align)
        raise ConvertError(f"`align` must be one of {choices}") from error
    files = tuple(_file(item) for item in _field(found, "files", list))
    if len(files) != 1:
        raise ConvertError(f"`files` names {len(files)} files; this format takes one")
    inputs = _inputs(_field(found, "input", dict))
    return ModelSpec(name, found["format"], inputs, align, (similarity[0], similarity[1]), files)


def read_source(spec: ModelSpec, paths: Sequence[Path]) -> tuple[bytes, str]:
    """The model's bytes and their SHA-256, proven against the entry."""
    if len(paths) != len(spec.files):
        raise ConvertError(f"{len(spec.files)} model file is needed, {len(paths)} were given")
    try:
        data = paths[0].read_bytes()
    except OSError as error:
        raise ConvertError(f"{paths[0]} cannot be read: {error}") from error
    sha256 = hashlib.sha256(data).hexdigest()
    wanted = spec.files[0].sha256
    if wanted is not None and wanted != sha256:
        raise ConvertError(f"{paths[0]} has the SHA-256 {sha256}, the entry says {wanted}")
    return data, sha256


def _field(found: Mapping[str, Any], key: str, kind: Callable[..., Any]) -> Any:
    value = found.get(key)
    if not isinstance(value, kind):  # type: ignore[arg-type]
        raise ConvertError(f"`{key}` is missing or of the wrong kind")
    return value


def _numbers(value: Any, key: str, count: int) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise ConvertError(f"`{key}` must be a list of {count} numbers")
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
        raise ConvertError(f"`{key}` must be a list of {count} numbers")
    return [float(item) for item in value]


def _file(item: Any) -> ModelFile:
    if not isinstance(item, dict) or not isinstance(item.get("path"), str):
        raise ConvertError("each of `files` needs a `path`")
    sha256 = item.get("sha256")
    if sha256 is not None and not (isinstance(sha256, str) and len(sha256) == 64):
        raise ConvertError(f"`sha256` of {item['path']} must have 64 hexadecimal digits")
    return ModelFile(item["path"], sha256.lower() if sha256 else None)


def _inputs(found: Mapping[str, Any]) -> InputSpec:
    size = found.get("size")
    if not isinstance(size, int) or not 1 <= size <= _MAX_SIDE:
        raise ConvertError(f"`input.size` must be a whole number from 1 to {_MAX_SIDE}")
    layout, colour = found.get("layout", "nchw"), found.get("colour", "rgb")
    if layout not in ("nchw", "nhwc"):
        raise ConvertError("`input.layout` must be nchw or nhwc")
    if colour not in ("rgb", "bgr"):
        raise ConvertError("`input.colour` must be rgb or bgr")
    mean, scale = _per_channel(found, "mean"), _per_channel(found, "scale")
    if (mean is None) != (scale is None):
        raise ConvertError("give both `input.mean` and `input.scale`, or neither")
    if scale is not None and 0 in scale:
        raise ConvertError("`input.scale` must not be 0")
    return InputSpec(size, layout, colour, mean, scale)


def _per_channel(found: Mapping[str, Any], key: str) -> PerChannel | None:
    value = found.get(key)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value),) * 3
    first, second, third = _numbers(value, f"input.{key}", 3)
    return first, second, third
