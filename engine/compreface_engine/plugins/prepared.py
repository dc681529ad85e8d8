"""A prepared model's folder: `model.json` beside `model.onnx`, checked before it is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.types import Align
from compreface_engine.plugins.inputs import InputSpec, PerChannel

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A calculator's network as `python -m compreface_engine.convert` leaves it."""

    name: str
    path: Path
    inputs: InputSpec
    align: Align
    similarity: tuple[float, float]
    dimension: int


def read_prepared(models_dir: Path | None, name: str, plugin: str) -> PreparedModel:
    """The model `name` for `plugin`. Raises ConfigurationError where it is absent or damaged."""
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
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{plugin} needs the model `{name}`, but {manifest} does not exist. "
            f"Prepare it with `python -m compreface_engine.convert`."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{manifest} cannot be read: {error!r}. "
            "Prepare the model again with `python -m compreface_engine.convert`."
        ) from error
    _check_hash(model.path, str(described["sha256"]), plugin)
    return model


def _parse(described: Mapping[str, Any], folder: Path) -> PreparedModel:
    if described["schema"] != _SCHEMA or described["role"] != "calculator":
        raise ValueError("only calculators of schema 1 are understood")
    inputs = described["input"]
    layout, colour = inputs.get("layout", "nchw"), inputs.get("colour", "rgb")
    if layout not in ("nchw", "nhwc") or colour not in ("rgb", "bgr"):
        raise ValueError(f"unknown layout {layout!r} or colour {colour!r}")
    file = str(described["file"])
    if Path(file).name != file:
        raise ValueError("`file` must be a name without a folder")
    c0, c1 = described["similarity"]
    return PreparedModel(
        name=str(described["name"]),
        path=folder / file,
        inputs=InputSpec(
            size=int(inputs["size"]),
            layout=layout,
            colour=colour,
            mean=_per_channel(inputs.get("mean")),
            scale=_per_channel(inputs.get("scale")),
        ),
        align=Align(described["align"]),
        similarity=(float(c0), float(c1)),
        dimension=int(described["dimension"]),
    )


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
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"{plugin}: {path} cannot be read: {error}.") from error
    if found != expected:
        raise ConfigurationError(
            f"{plugin}: {path} is damaged: its SHA-256 is {found}, not {expected}. "
            "Prepare the model again with `python -m compreface_engine.convert`."
        )
