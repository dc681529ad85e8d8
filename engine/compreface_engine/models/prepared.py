"""The folder of a prepared model, `model.json` and `model.onnx`; read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.types import Align
from compreface_engine.models.inputs import InputSpec, PerChannel

Role: TypeAlias = Literal["detector", "calculator", "analyzer"]

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Embedding:
    """A calculator's own part of the manifest: alignment, similarity coefficients, dimension."""

    align: Align
    similarity: tuple[float, float]
    dimension: int


@dataclass(frozen=True, slots=True)
class Source:
    """The files that a model was prepared from: their format and, if kept, their SHA-256."""

    format: str
    files: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A network as `python -m compreface_convert` leaves it.

    `inputs.size` is 0 where any height and width will do (detectors only). `outputs` are names in
    the graph's order, empty if the manifest has none. Only calculators have an `embedding`.
    `batch`: the fixed number of rows per run; None for any number.
    """

    name: str
    role: Role
    path: Path
    inputs: InputSpec
    outputs: tuple[str, ...] = ()
    embedding: Embedding | None = None
    source: Source | None = None
    batch: int | None = None
    sha256: str = ""  # of `path`, once it is checked


def read_prepared(
    models_dir: Path | None, name: str, plugin: str, role: Role = "calculator"
) -> PreparedModel:
    """The model `name` for `plugin`.

    Raises ConfigurationError where it is missing, damaged or prepared for another role.
    """
    if models_dir is None:
        raise ConfigurationError(
            f"{plugin} needs the model `{name}`, but no folder of models is set. "
            "Set CF_MODELS_DIR to the folder that holds it."
        )
    folder = models_dir / name
    manifest = folder / "model.json"
    try:
        described = json.loads(manifest.read_text("utf-8"))
        model = _parse(described, folder)
        sha256 = str(described["sha256"])
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{plugin} needs the model `{name}`, but {manifest} does not exist. "
            f"Prepare it with `python -m compreface_convert`."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{manifest} cannot be read: {error!r}. "
            "Prepare the model again with `python -m compreface_convert`."
        ) from error
    if model.role != role:
        raise ConfigurationError(
            f"{plugin} needs {_a(role)}, and the model in {folder} is {_a(model.role)}. "
            f"Name another model, or prepare this one again with `role: {role}`."
        )
    _check_hash(model.path, sha256, plugin)
    return replace(model, sha256=sha256)


def _a(role: str) -> str:
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def check_input(model: PreparedModel, wanted: InputSpec, plugin: str, instead: str) -> None:
    """Raises ConfigurationError unless the model's input is `wanted`; the layout may differ.

    Answers under upstream's name must keep their meaning: `instead` is the notation for a model
    with another input.
    """
    for what in ("size", "colour", "mean", "scale"):
        has, needs = getattr(model.inputs, what), getattr(wanted, what)
        if has != needs:
            raise ConfigurationError(
                f"{plugin}: the model in {model.path.parent} has `input.{what}` {_shown(has)}, "
                f"CompreFace's has {_shown(needs)}. Correct its description and prepare it again, "
                f"or give it a name of its own and use {instead}."
            )


def _shown(value: Any) -> str:
    return ", ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value or "null")


def _parse(described: Mapping[str, Any], folder: Path) -> PreparedModel:
    role = described["role"]
    if described["schema"] != _SCHEMA or role not in get_args(Role):
        raise ValueError(f"schema {described['schema']!r} or role {role!r} is not understood")
    inputs = described["input"]
    layout, colour = inputs.get("layout", "nchw"), inputs.get("colour", "rgb")
    if layout not in ("nchw", "nhwc") or colour not in ("rgb", "bgr"):
        raise ValueError(f"unknown layout {layout!r} or colour {colour!r}")
    return PreparedModel(
        name=str(described["name"]),
        role=role,
        path=folder / _plain_name(described["file"]),
        inputs=InputSpec(
            size=_size(inputs["size"], role),
            layout=layout,
            colour=colour,
            mean=_per_channel(inputs.get("mean")),
            scale=_per_channel(inputs.get("scale")),
        ),
        outputs=tuple(str(output) for output in described.get("outputs", ())),
        embedding=_embedding(described) if role == "calculator" else None,
        source=_source(described["source"], folder) if "source" in described else None,
        batch=None if described.get("batch") is None else int(described["batch"]),
    )


def _size(value: Any, role: Role) -> int:
    if value is None and role == "detector":
        return 0
    if int(value) < 1:
        raise ValueError(f"`input.size` {value!r} is no side of a picture")
    return int(value)


def _embedding(described: Mapping[str, Any]) -> Embedding:
    c0, c1 = described["similarity"]
    return Embedding(Align(described["align"]), (float(c0), float(c1)), int(described["dimension"]))


def _source(described: Mapping[str, Any], folder: Path) -> Source:
    files = (
        (folder / "source" / _plain_name(file["name"]), str(file["sha256"]))
        for file in described.get("files", ())
    )
    return Source(str(described["format"]), tuple(files))


def _plain_name(value: Any) -> str:
    file = str(value)
    if Path(file).name != file:
        raise ValueError(f"{file!r} must be a name without a folder")
    return file


def _per_channel(value: float | list[float] | None) -> PerChannel | None:
    if value is None:
        return None
    if isinstance(value, list):
        first, second, third = (float(v) for v in value)
        return first, second, third
    return float(value), float(value), float(value)


def _check_hash(path: Path, expected: str, plugin: str) -> None:
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"{plugin}: {path} cannot be read: {error}.") from error
    if actual != expected:
        raise ConfigurationError(
            f"{plugin}: {path} is damaged: its SHA-256 is {actual}, not {expected}. "
            "Prepare the model again with `python -m compreface_convert`."
        )
