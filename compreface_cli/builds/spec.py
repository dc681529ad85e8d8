"""The schema of a build file (`BuildSpec`), and its validation with file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from compreface_cli import plugin_table
from compreface_cli.builds.spec_entry import (
    MODEL_NAME,
    SHA256,
    Alternative,
    Border,
    File,
    Input,
    ModelSpec,
    Strict,
    misfit,
)
from compreface_cli.builds.spec_faults import fault
from compreface_cli.config.settings_table import MAX_REPLICAS
from compreface_cli.config.yamlfile import Document, Fault, parse, read, refuse
from compreface_cli.errors import ConfigurationError
from compreface_cli.runtimes import BF16_IS_FOR, RUNTIMES, bf16_fault

__all__ = [
    "MODEL_NAME",
    "BuildSpec",
    "ModelSpec",
    "check",
    "from_text",
    "load",
    "model_from_data",
    "validate",
]

NAME = r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
PLUGIN = r"^[a-z0-9_]+(\.[a-z0-9_]+)*\.[A-Za-z][A-Za-z0-9]*(@[A-Za-z0-9_-]+)?$"
BASE_IMAGE = r"^[a-z0-9][A-Za-z0-9._/:@-]{0,254}$"


def _plugin(role: plugin_table.Role) -> AfterValidator:
    def check_role(plugin: str) -> str:
        problem = plugin_table.fault(plugin, role)
        if problem is not None:
            raise ValueError(problem)
        return plugin

    return AfterValidator(check_role)


Plugin = Annotated[str, Field(pattern=PLUGIN, max_length=120)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Device = Literal["cpu", "cuda"]
if TYPE_CHECKING:
    Runtime = str
else:
    Runtime = Literal[tuple(RUNTIMES)]
Precision = Literal["auto", "fp32", "bf16"]


class Limits(Strict):
    """Limits of the engine; null leaves the setting's default."""

    max_detect_size: Annotated[int, Field(ge=0, le=16384)] | None = Field(
        default=None, description="Longest side in pixels that detection sees; 0 for no limit."
    )
    max_concurrency: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None, description="Photographs computed at once."
    )
    max_wait_s: Annotated[float, Field(gt=0, le=600)] | None = Field(
        default=None, description="Longest time in seconds that a request waits for its turn."
    )


class Accuracy(Strict):
    """One figure: percent on a named set, who says so, and whether it was published or measured."""

    set: Text = Field(description="Name of the test set.")
    value: float = Field(ge=0, le=100, description="Percent right.")
    source: Text = Field(description="Who published or measured it.")
    kind: Literal["published", "measured"] = Field(
        default="published", description="Origin of the figure."
    )
    of: Literal["recognition", "detection"] = Field(
        default="recognition", description="What it measures."
    )


class Licence(Strict):
    """What may be done with the weights; `unclear` and `excluded` give the reason."""

    weights: Text = Field(description="The licence of the weights.")
    commercial: Literal["allowed", "unclear", "excluded"] = Field(
        default="unclear", description="Whether commercial use is allowed."
    )
    reason: Text | None = Field(default=None, description="Why it is unclear or excluded.")


class Facts(Strict):
    """What is known about the build; nothing here changes how it runs."""

    good_for: Annotated[str, Field(min_length=1, max_length=40)] | None = Field(
        default=None,
        description="What it is good for, in a few words; `cf list-builds` shows 16 characters.",
    )
    accuracy: list[Accuracy] = Field(default_factory=list, description="Published and measured.")
    licence: Licence | None = Field(
        default=None,
        description="Terms of the build's own models; for those that `cf` knows, its own count.",
    )
    upstream: Text | None = Field(
        default=None,
        description="The image of upstream that it corresponds to, and the differences.",
    )
    note: Text | None = Field(default=None, description="Shown by `cf list-builds --long`.")


class BuildSpec(Strict):
    """A build: what the engine is made of, and nothing about the machine it runs on."""

    schema_: Literal[1] = Field(alias="schema", description="Version of this format.")
    name: str = Field(pattern=NAME, description="Name of the build; the file is `NAME.yaml`.")
    summary: str = Field(default="", max_length=200, description="One line about the build.")
    runtime: Runtime = Field(default="onnxruntime", description="Library that runs the networks.")
    precision: Precision = Field(
        default="auto", description="Numbers that the calculator computes with."
    )
    min_cosine: float = Field(
        default=0.998,
        ge=0.9,
        le=1,
        description="Lowest cosine to fp32 that a runtime or precision chosen by `auto` may have.",
    )
    device: Device = Field(default="cpu", description="CPU, or an NVIDIA GPU.")
    gpu_index: int = Field(default=0, ge=0, le=63, description="Which GPU of the host.")
    replicas: int = Field(
        default=1, ge=1, le=MAX_REPLICAS, description="Number of engines that share the requests."
    )
    detector: Annotated[Plugin, _plugin("detector")] = Field(description="Plugin that finds faces.")
    calculator: Annotated[Plugin, _plugin("calculator")] = Field(
        description="Plugin that computes embeddings."
    )
    plugins: list[Annotated[Plugin, _plugin("analyzer")]] = Field(
        default_factory=lambda: list(plugin_table.UI_PLUGINS),
        max_length=32,
        description="Further plugins; without the key, the four that CompreFace's UI reads.",
    )
    fallbacks: dict[str, Annotated[Plugin, _plugin("analyzer")] | None] = Field(
        default_factory=dict,
        description="By plugin, the one that takes its place where its model cannot be fetched; "
        "null leaves it out.",
    )
    base_image: Annotated[str, Field(pattern=BASE_IMAGE)] | None = Field(
        default=None, description="Image that the engine's image is built on."
    )
    limits: Limits = Field(default=Limits(), description="Limits of the engine.")
    models: list[ModelSpec] = Field(
        default_factory=list, max_length=16, description="Models that are not in the catalogue."
    )
    facts: Facts = Field(default=Facts(), description="What is known about the build.")

    @model_validator(mode="after")
    def _fits_together(self) -> BuildSpec:
        duplicate = _duplicate(self.plugins)
        if duplicate is not None:
            why = f"{self.plugins[duplicate]} is listed twice"
            raise misfit(("plugins", duplicate), f"plugins.{duplicate}: {why}")
        for plugin, instead in self.fallbacks.items():
            if why := self._fallback_fault(plugin, instead):
                raise misfit(("fallbacks", plugin), f"fallbacks.{plugin}: {why}")
        conflict = bf16_fault(self.runtime, self.device) if self.precision == "bf16" else ""
        if conflict:
            why = f"precision: bf16 cannot be combined with {conflict}: it is {BF16_IS_FOR}"
            raise misfit(("precision",), why)
        duplicate = _duplicate([model.name for model in self.models])
        if duplicate is not None:
            why = f"two models have the name {self.models[duplicate].name}"
            raise misfit(("models", duplicate, "name"), f"models.{duplicate}.name: {why}")
        for number, model in enumerate(self.models):
            for plugin in (self.detector, self.calculator, *self.plugins):
                if plugin_table.model_of(plugin) != model.name:
                    continue
                role = plugin_table.model_role(plugin)
                if model.role != role:
                    why = f"models.{number}.role: {plugin} needs a model with the role {role}"
                    raise misfit(("models", number, "role"), f"{why}, not {model.role}")
        return self

    def _fallback_fault(self, plugin: str, instead: str | None) -> str:
        """Why `instead` cannot take the place of that plugin; empty if it can."""
        if plugin in (self.detector, self.calculator):
            return "a detector and a calculator have no fallback: another gives other embeddings"
        if plugin not in self.plugins:
            return (
                f"it is none of the build's plugins: {', '.join(self.plugins) or 'there are none'}"
            )
        if plugin_table.model_of(plugin) is None:
            return "it needs no model, so it needs no fallback"
        if instead is None:
            return ""
        if instead in self.plugins or list(self.fallbacks.values()).count(instead) > 1:
            return f"{instead} is listed already"
        if plugin_table.kind(instead) != plugin_table.kind(plugin):
            return f"{instead} does not answer what {plugin} answers"
        if plugin_table.model_of(instead) == plugin_table.model_of(plugin):
            return f"{instead} needs the same model"
        return ""


def _duplicate(words: Sequence[str]) -> int | None:
    """The index of the first word that occurred before; None without duplicates."""
    return next((at for at, word in enumerate(words) if word in words[:at]), None)


_MODELS: Mapping[str, type[BaseModel]] = {
    "": BuildSpec,
    "limits": Limits,
    "models": ModelSpec,
    "alternatives": Alternative,
    "files": File,
    "input": Input,
    "border": Border,
    "facts": Facts,
    "accuracy": Accuracy,
    "licence": Licence,
}
_WORDS = {
    NAME: "a name of lower-case letters, digits and hyphens (at most 40)",
    PLUGIN: "a plugin, like facenet.FaceDetector or custom.Calculator@my-model",
    MODEL_NAME: "a model's name of letters, digits, '_' and '-' (no dots)",
    BASE_IMAGE: "an image, like python:3.11-slim-bookworm",
    SHA256: "a SHA-256: 64 lower-case hexadecimal digits",
}


def load(path: Path) -> BuildSpec:
    """The build in this file; raises ConfigurationError with every fault and its line."""
    return validate(read(path))


def from_text(text: str, origin: str = "build") -> BuildSpec:
    return validate(parse(text, origin))


def validate(document: Document) -> BuildSpec:
    spec, faults = check(document)
    if spec is None:
        raise refuse(faults)
    return spec


def check(document: Document) -> tuple[BuildSpec | None, list[Fault]]:
    """The build, or None and all its faults in the order of the file."""
    if not isinstance(document.data, dict):
        what = "a build file is a mapping that starts with schema: 1"
        return None, [Fault(document.origin, 1, 1, what)]
    try:
        return BuildSpec.model_validate(document.data), []
    except ValidationError as error:
        errors = error.errors(include_url=False)
        faults = {fault(document, details, _MODELS, _WORDS): None for details in errors}
        return None, sorted(faults, key=lambda fault: (fault.line, fault.column))


def model_from_data(data: Any, origin: str) -> ModelSpec:
    """A `models:` entry outside a build file, as in the catalogue; raises ConfigurationError."""
    try:
        return ModelSpec.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = "".join(f"{part}." for part in first["loc"]).removesuffix(".")
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise ConfigurationError(f"{origin}: {message}") from error
