"""What a build file may say: the `BuildSpec` model, and its faults by file and line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from compreface_cli import notation
from compreface_cli.errors import ConfigurationError
from compreface_cli.yamlfile import Document, Fault, did_you_mean, parse, read, refuse

NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
PLUGIN = r"^[a-z0-9_]+(\.[a-z0-9_]+)*\.[A-Za-z][A-Za-z0-9]*(@[A-Za-z0-9_-]+)?$"
MODEL_NAME = r"^[A-Za-z0-9]([A-Za-z0-9_-]{0,62}[A-Za-z0-9])?$"
BASE_IMAGE = r"^[a-z0-9][A-Za-z0-9._/:@-]{0,254}$"


def _inside(path: str) -> str:
    """A path below a mirror or beside the build file: it may not leave that folder."""
    parts = PurePosixPath(path).parts
    if not path or path.startswith(("/", "~")) or "\\" in path or "\0" in path or ":" in path:
        raise ValueError("must be a relative path with forward slashes, like folder/model.onnx")
    if ".." in parts or not parts:
        raise ValueError("must not leave its folder: '..' is not allowed")
    return path


def _source(address: str) -> str:
    if not address.startswith(("https://", "http://")) or any(c.isspace() for c in address):
        raise ValueError("must be an http or https address; a file goes beside the build file")
    return address


def _hashes(value: Any) -> Any:
    """One hash, several, or null for "unknown": a list of them."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _plugin(wanted: notation.Role) -> AfterValidator:
    def known(plugin: str) -> str:
        fault = notation.fault(plugin, wanted)
        if fault is not None:
            raise ValueError(fault)
        return plugin

    return AfterValidator(known)


Plugin = Annotated[str, Field(pattern=PLUGIN, max_length=120)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Device = Literal["cpu", "cuda"]
Runtime = Literal["onnxruntime", "tensorflow", "mxnet"]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
Real = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Limits(_Strict):
    """Limits of the engine; None leaves the setting's default."""

    max_detect_size: Annotated[int, Field(ge=0, le=16384)] | None = None
    max_concurrency: Annotated[int, Field(ge=1, le=1024)] | None = None
    max_wait_s: Annotated[float, Field(gt=0, le=600)] | None = None


class File(_Strict):
    """A weights file: path below a mirror or beside the build file, accepted hashes, addresses."""

    path: Annotated[str, Field(max_length=200), AfterValidator(_inside)]
    sha256: Annotated[list[Sha256], BeforeValidator(_hashes)] = []
    sources: list[Annotated[str, AfterValidator(_source)]] = []


class Input(_Strict):
    """How a crop is given to the network; mean and scale null: each crop is standardised."""

    size: Annotated[int, Field(ge=16, le=1024)]
    layout: Literal["nchw", "nhwc"] = "nchw"
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: Real | Channels | None = None
    scale: Real | Channels | None = None

    @model_validator(mode="after")
    def _pair(self) -> Input:
        if (self.mean is None) != (self.scale is None):
            raise ValueError("mean and scale go together: give both, or neither")
        scales = self.scale if isinstance(self.scale, list) else [self.scale]
        if 0 in scales:
            raise ValueError("scale must not be 0: pixels are divided by it")
        return self


class ModelSpec(_Strict):
    """A model of the build's own or of the catalogue."""

    name: Annotated[str, Field(pattern=MODEL_NAME)]
    role: Literal["calculator"]
    format: Literal["onnx", "tensorflow-graph", "mxnet", "tflite"]
    files: Annotated[list[File], Field(min_length=1, max_length=16)]
    input: Input
    align: Literal["arcface5", "facenet-margin"]
    similarity: tuple[Real, Annotated[float, Field(gt=0, allow_inf_nan=False)]]

    @model_validator(mode="before")
    @classmethod
    def _tuple(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("similarity"), list):
            return {**data, "similarity": tuple(data["similarity"])}
        return data


class Accuracy(_Strict):
    """One figure: percent on a named set, who says so, and whether it was published or measured."""

    set: Text
    value: Annotated[float, Field(ge=0, le=100)]
    source: Text
    kind: Literal["published", "measured"] = "published"
    of: Literal["recognition", "detection"] = "recognition"


class Licence(_Strict):
    """What may be done with the weights; `unclear` and `excluded` give the reason."""

    weights: Text
    commercial: Literal["allowed", "unclear", "excluded"] = "unclear"
    reason: Text | None = None


class Facts(_Strict):
    """What is known about the build; nothing here changes how it runs."""

    accuracy: list[Accuracy] = []
    licence: Licence | None = None
    upstream: Text | None = None  # the image of upstream it stands for, and what that has on top


class BuildSpec(_Strict):
    """A build: what the engine is made of, and nothing about the machine it runs on."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=NAME)]
    summary: Annotated[str, Field(max_length=200)] = ""
    runtime: Runtime = "onnxruntime"
    device: Device = "cpu"
    gpu_index: Annotated[int, Field(ge=0, le=63)] = 0
    detector: Annotated[Plugin, _plugin("detector")]
    calculator: Annotated[Plugin, _plugin("calculator")]
    plugins: Annotated[list[Annotated[Plugin, _plugin("extra")]], Field(max_length=32)] = []
    base_image: Annotated[str, Field(pattern=BASE_IMAGE)] | None = None
    limits: Limits = Limits()
    models: Annotated[list[ModelSpec], Field(max_length=16)] = []
    facts: Facts = Facts()

    @model_validator(mode="after")
    def _fits_together(self) -> BuildSpec:
        if len(set(self.plugins)) != len(self.plugins):
            raise ValueError("plugins: a plugin is listed twice")
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError("models: two models have the same name")
        return self


def load(path: Path) -> BuildSpec:
    """The build in this file; a ConfigurationError names every fault with its line."""
    return validate(read(path))


def from_text(text: str, origin: str = "build") -> BuildSpec:
    return validate(parse(text, origin))


def validate(document: Document) -> BuildSpec:
    spec, found = check(document)
    if spec is None:
        raise refuse(found)
    return spec


def check(document: Document) -> tuple[BuildSpec | None, list[Fault]]:
    """The build, or None and all its faults in the order of the file."""
    if not isinstance(document.data, dict):
        fault = Fault(document.origin, 1, 1, "a build file is a mapping that starts with schema: 1")
        return None, [fault]
    try:
        return BuildSpec.model_validate(document.data), []
    except ValidationError as error:
        faults = [_fault(document, one) for one in error.errors(include_url=False)]
        return None, sorted(dict.fromkeys(faults), key=lambda fault: (fault.line, fault.column))


def model_from_data(data: Any, origin: str) -> ModelSpec:
    """One `models:` entry that stands alone, as in the catalogue."""
    try:
        return ModelSpec.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{origin}: {where}: {first['msg']}") from error


def _keys_at(location: Sequence[str | int]) -> list[str]:
    """The keys that are known where an unknown one stands."""
    inner: dict[str | int, type[BaseModel]] = {
        "limits": Limits,
        "models": ModelSpec,
        "files": File,
        "input": Input,
        "facts": Facts,
        "accuracy": Accuracy,
        "licence": Licence,
    }
    model: type[BaseModel] = BuildSpec
    for part in location:
        model = inner.get(part, model)
    return [field.alias or name for name, field in model.model_fields.items()]


def _fault(document: Document, error: ErrorDetails) -> Fault:
    data: Any = document.data
    location: list[str | int] = []
    for part in error["loc"]:  # pydantic appends names of union members, which are no keys
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            if error["type"] == "missing":
                location.append(part)
            break
        location.append(part)
    line, column = document.position(location)
    name = ".".join(str(part) for part in location)
    kind, context = error["type"], error.get("ctx", {})
    hint = ""
    if kind == "extra_forbidden":
        known = _keys_at(location[:-1])
        message = f"unknown key {location[-1]!r}"
        hint = did_you_mean(str(location[-1]), known) or f"known here: {', '.join(known)}"
    elif kind == "missing":
        message = f"{name} is missing"
    elif kind == "literal_error":
        expected = str(context.get("expected", ""))
        message = f"{name}: {data!r} is not one of {expected}"
        hint = did_you_mean(str(data), re.findall(r"'([^']+)'", expected)) or ""
    elif kind == "string_type":
        message = f"{name}: must be text, not {data!r}"
        hint = "put it in quotes"
    elif kind == "string_pattern_mismatch":
        message = f"{name}: {data!r} is not {_in_words(str(context.get('pattern', '')))}"
    elif kind == "value_error":
        reason = str(context.get("error", error["msg"]))
        message = f"{name}: {reason}" if name else reason
    else:
        text = error["msg"].removeprefix("Input should be ")
        message = (
            f"{name}: must be {text}, not {data!r}" if text != error["msg"] else f"{name}: {text}"
        )
    return Fault(document.origin, line, column, message, hint)


def _in_words(pattern: str) -> str:
    return {
        NAME: "a name of lower-case letters, digits and hyphens (at most 40)",
        PLUGIN: "a plugin, like facenet.FaceDetector or custom.Calculator@my-model",
        MODEL_NAME: "a model's name of letters, digits, '_' and '-' (no dots)",
        BASE_IMAGE: "an image, like python:3.11-slim-bookworm",
        r"^[0-9a-f]{64}$": "a SHA-256: 64 lower-case hexadecimal digits",
    }.get(pattern, f"of the form {pattern}")
