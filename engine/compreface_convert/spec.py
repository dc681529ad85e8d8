"""A model's entry: its files, its input and its use, read from JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from compreface_convert.errors import ConvertError
from compreface_engine.core.types import Align
from compreface_engine.models.inputs import InputSpec, PerChannel

FILES: Final[Mapping[str, tuple[str, ...] | None]] = {
    "onnx": ("*.onnx",),
    "tensorflow-graph": ("*.pb",),
    "tflite": ("*.tflite",),
    "tensorflow-checkpoint": None,
    "tensorflow-saved-model": None,
    "mxnet": ("*-symbol.json", "*.params"),
    "mxnet-gluon": ("*.params",),
    "pytorch": ("*.pt",),
}
"""The files of each format; None for a folder of any number of files."""
ROLES: Final = ("calculator", "detector", "analyzer")
_NAMED: Final = ("tensorflow-checkpoint", "mxnet-gluon", "pytorch")
"""The formats without a graph, whose entry names the architecture."""
_DETECTORS: Final = ("onnx", "mxnet")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_MAX_SIDE: Final = 1024
_MAX_FILES: Final = 100


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A source file: its name in the entry, and its SHA-256 (None: any)."""

    path: str
    sha256: str | None


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model's entry. `inputs` describes the input of the source file.

    `inputs.size` is 0 for any height and width (detectors only). `align` and `similarity` are those
    of a calculator; `network` is the architecture where the format has no graph.
    """

    name: str
    role: str
    format: str
    inputs: InputSpec
    align: Align | None
    similarity: tuple[float, float] | None
    files: tuple[ModelFile, ...]
    network: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A source file, checked against the entry."""

    name: str  # without folders
    path: Path
    sha256: str

    def data(self) -> bytes:
        """The bytes of the file. Raises ConvertError."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConvertError(f"{self.path} cannot be read: {error}") from error


def read_spec(path: Path) -> ModelSpec:
    """The entry in a JSON file. Raises ConvertError with the name of a wrong field."""
    try:
        entry = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConvertError(f"{path} cannot be read: {error}") from error
    if not isinstance(entry, dict):
        raise ConvertError(f"{path} does not contain an object")
    name = _field(entry, "name", str)
    if not _NAME.fullmatch(name):
        raise ConvertError(f"`name` {name!r}: use letters, digits, '-' and '_'")
    role, form = str(entry.get("role", "calculator")), str(entry.get("format"))
    if role not in ROLES:
        raise ConvertError(f"`role` must be one of {', '.join(ROLES)}")
    if form not in FILES:
        raise ConvertError(f"`format` must be one of {', '.join(FILES)}")
    if role == "detector" and form not in _DETECTORS:
        raise ConvertError(f"`format` of a detector must be {' or '.join(_DETECTORS)}")
    align, similarity = _embedding(entry) if role == "calculator" else (None, None)
    files = _files(form, _field(entry, "files", list))
    inputs = _inputs(_field(entry, "input", dict), any_size=role == "detector")
    network = _field(entry, "network", str) if form in _NAMED else None
    return ModelSpec(name, role, form, inputs, align, similarity, files, network)


def _embedding(entry: Mapping[str, Any]) -> tuple[Align, tuple[float, float]]:
    similarity = _numbers(entry.get("similarity"), "similarity", 2)
    try:
        align = Align(entry.get("align"))
    except ValueError as error:
        choices = ", ".join(item.value for item in Align)
        raise ConvertError(f"`align` must be one of {choices}") from error
    return align, (similarity[0], similarity[1])


def _files(form: str, items: Sequence[Any]) -> tuple[ModelFile, ...]:
    files = tuple(_file(item) for item in items)
    patterns = FILES[form]
    if patterns is None and not 1 <= len(files) <= _MAX_FILES:
        raise ConvertError(f"`files` lists {len(files)} files; list all files of the folder")
    if patterns is not None and len(files) != len(patterns):
        expected = f"{len(patterns)} ({', '.join(patterns)})"
        raise ConvertError(f"`files` lists {len(files)} files; {form} needs {expected}")
    names = [_base_name(file.path) for file in files]
    if len(set(names)) != len(names):
        raise ConvertError("two of `files` have the same name")
    return files


def _base_name(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def read_sources(spec: ModelSpec, paths: Sequence[Path]) -> tuple[Source, ...]:
    """The model's files in the entry's order, checked against the entry. Raises ConvertError."""
    if len(paths) != len(spec.files):
        raise ConvertError(f"{len(spec.files)} model files are needed, {len(paths)} were given")
    return tuple(_source(file, path) for file, path in zip(spec.files, paths, strict=True))


def _source(file: ModelFile, path: Path) -> Source:
    try:
        with path.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error}") from error
    if file.sha256 is not None and file.sha256 != sha256:
        raise ConvertError(f"{path} has the SHA-256 {sha256}, the entry says {file.sha256}")
    return Source(_base_name(file.path), path, sha256)


def _field(entry: Mapping[str, Any], key: str, kind: Callable[..., Any]) -> Any:
    value = entry.get(key)
    if not isinstance(value, kind):  # type: ignore[arg-type]
        raise ConvertError(f"`{key}` is missing or of the wrong type")
    return value


def _numbers(value: Any, key: str, count: int) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise ConvertError(f"`{key}` must be a list of {count} numbers")
    if not all(isinstance(item, int | float) and not isinstance(item, bool) for item in value):
        raise ConvertError(f"`{key}` must be a list of {count} numbers")
    return [float(item) for item in value]


def _file(item: Any) -> ModelFile:
    if not isinstance(item, dict) or not isinstance(item.get("path"), str):
        raise ConvertError("every item of `files` needs a `path`")
    if _base_name(item["path"]) in ("", ".", ".."):
        raise ConvertError(f"the `path` {item['path']!r} does not name a file")
    sha256 = item.get("sha256")
    if sha256 is not None and not (isinstance(sha256, str) and len(sha256) == 64):
        raise ConvertError(f"`sha256` of {item['path']} must have 64 hexadecimal digits")
    return ModelFile(item["path"], sha256.lower() if sha256 else None)


def _inputs(entry: Mapping[str, Any], *, any_size: bool) -> InputSpec:
    size = entry.get("size")
    if size is None and any_size:
        size = 0
    elif type(size) is not int or not 1 <= size <= _MAX_SIDE:
        raise ConvertError(f"`input.size` must be an integer from 1 to {_MAX_SIDE}")
    layout, colour = entry.get("layout", "nchw"), entry.get("colour", "rgb")
    if layout not in ("nchw", "nhwc"):
        raise ConvertError("`input.layout` must be nchw or nhwc")
    if colour not in ("rgb", "bgr"):
        raise ConvertError("`input.colour` must be rgb or bgr")
    mean, scale = _per_channel(entry, "mean"), _per_channel(entry, "scale")
    if (mean is None) != (scale is None):
        raise ConvertError("give both `input.mean` and `input.scale`, or neither")
    if scale is not None and 0 in scale:
        raise ConvertError("`input.scale` must not be 0")
    return InputSpec(size, layout, colour, mean, scale)


def _per_channel(entry: Mapping[str, Any], key: str) -> PerChannel | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value),) * 3
    first, second, third = _numbers(value, f"input.{key}", 3)
    return first, second, third
