"""The schema of a `models:` entry: files, input, and the keys that its role and format need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from compreface_cli.models import sources
from compreface_cli.plugin_table import Format, Network, Role

MODEL_NAME = r"^[A-Za-z0-9]([A-Za-z0-9_-]{0,62}[A-Za-z0-9])?$"
SHA256 = r"^[0-9a-f]{64}$"

Sha256 = Annotated[str, Field(pattern=SHA256)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
Real = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def misfit(path: tuple[str | int, ...], reason: str) -> PydanticCustomError:
    """A fault at the key `path` below the mapping that is validated."""
    return PydanticCustomError("misfit", "{reason}", {"reason": reason, "path": list(path)})


def _inside(path: str) -> str:
    """A relative path that does not leave its folder (a mirror, or that of the build file)."""
    parts = PurePosixPath(path).parts
    if not path or path.startswith(("/", "~")) or "\\" in path or "\0" in path or ":" in path:
        raise ValueError("must be a relative path with forward slashes, like folder/model.onnx")
    if ".." in parts or not parts:
        raise ValueError("must not leave its folder: '..' is not allowed")
    return path


def _source(address: str) -> str:
    sources.parse(address)
    return address


def _hashes(value: Any) -> Any:
    """A hash, a list of hashes or null (unknown), as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


class File(Strict):
    """A weights file: path below a mirror or beside the build file, accepted hashes, addresses."""

    path: Annotated[str, AfterValidator(_inside)] = Field(
        max_length=200, description="Path below the mirror, or beside the build file."
    )
    sha256: Annotated[
        list[Sha256],
        BeforeValidator(_hashes, json_schema_input_type=Sha256 | list[Sha256] | None),
    ] = Field(default=[], description="Accepted hashes; null: it is shown once, to be accepted.")
    sources: list[Annotated[str, AfterValidator(_source)]] = Field(
        default=[],
        max_length=16,
        description="Where to fetch it, tried in order: `https://...`, `git+https://...@COMMIT/"
        "PATH`, `zip+https://...@sha256:DIGEST/MEMBER`, the same with `tar+`, or "
        "`oci://REGISTRY/REPOSITORY@sha256:DIGEST/PATH`.",
    )
    bytes: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Size of the file, where known."
    )


class Input(Strict):
    """How a picture is given to the network: (x - mean) / scale of pixels x from 0 to 255."""

    size: Annotated[int, Field(ge=16, le=1024)] | None = Field(
        description="Side of the square picture in pixels; null: any size (detectors only)."
    )
    layout: Literal["nchw", "nhwc"] = Field(
        default="nchw", description="Order of the axes in the file."
    )
    colour: Literal["rgb", "bgr"] = Field(
        default="rgb", description="Order of the colour channels."
    )
    mean: Real | Channels | None = Field(
        default=None,
        description="One number, or one for each channel. Null, with `scale` null: each crop is "
        "standardised by its own mean and deviation.",
    )
    scale: Real | Channels | None = Field(default=None, description="As `mean`; not 0.")

    @model_validator(mode="after")
    def _pair(self) -> Input:
        if (self.mean is None) != (self.scale is None):
            raise ValueError("mean and scale go together: give both, or neither")
        scales = self.scale if isinstance(self.scale, list) else [self.scale]
        if 0 in scales:
            raise ValueError("scale must not be 0: pixels are divided by it")
        return self


Percent = Annotated[float, Field(ge=0, le=100)]


class Border(Strict):
    """The similarity threshold of a calculator, as tools/measure_accuracy.py prints it."""

    at: float = Field(gt=0, lt=1, description="Perhaps the same person from this similarity on.")
    equal_error: Percent | None = Field(
        default=None, description="Equal error rate, percent of pairs."
    )
    sure: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Probably the same person from this similarity on."
    )
    sure_different: Percent | None = Field(
        default=None, description="Percent of pairs of different people that reach `sure`."
    )
    sure_same: Percent | None = Field(
        default=None, description="Percent of pairs of one person that do not reach `sure`."
    )
    set: str = Field(default="", max_length=200, description="Name of the measured set.")

    @model_validator(mode="after")
    def _in_order(self) -> Border:
        if self.sure is not None and self.sure < self.at:
            raise misfit(("sure",), f"sure: must be {self.at:g} (at) or more, not {self.sure:g}")
        return self


# The networks that the converter builds itself, for files that hold weights and no graph.
NETWORKS: Mapping[Format, tuple[Network, ...]] = {
    "mxnet-gluon": ("mobilenet_v2", "resnet18_v1"),
    "tensorflow-checkpoint": ("inception_v3_age", "inception_v3_gender"),
    "pytorch": ("inception_resnet_v1",),
}


class Alternative(Strict):
    """Other files that give the same network and the same answers, tried in order."""

    format: Format = Field(description="Format of the files.")
    network: Network | None = Field(
        default=None, description="The network, for formats whose files contain no graph."
    )
    files: list[File] = Field(min_length=1, max_length=16, description="The files.")
    input: Input | None = Field(
        default=None, description="What the network expects; null: as the model's own."
    )


class ModelSpec(Strict):
    """A model of the build's own or of the catalogue."""

    name: str = Field(pattern=MODEL_NAME, description="What a plugin names after `@`.")
    role: Role = Field(description="What the network does.")
    format: Format = Field(description="Format of the files.")
    network: Network | None = Field(
        default=None, description="The network, for formats whose files contain no graph."
    )
    files: list[File] = Field(min_length=1, max_length=16, description="The model's files.")
    input: Input = Field(description="What the network expects.")
    align: Literal["arcface5", "facenet-margin"] | None = Field(
        default=None, description="Calculators only, required: how a face is cut out."
    )
    similarity: tuple[Real, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = Field(
        default=None,
        description="Calculators only, required: [c0, c1] of the similarity "
        "(tanh((c0 - distance) * c1) + 1) / 2.",
    )
    border: Border | None = Field(
        default=None, description="Calculators only: similarity threshold."
    )
    alternatives: list[Alternative] = Field(
        default=[],
        max_length=4,
        description="Other files that give the same network, where these cannot be fetched.",
    )

    @model_validator(mode="before")
    @classmethod
    def _tuple(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("similarity"), list):
            return {**data, "similarity": tuple(data["similarity"])}
        return data

    @model_validator(mode="after")
    def _fits_its_role(self) -> ModelSpec:
        for key, value in (("align", self.align), ("similarity", self.similarity)):
            if self.role == "calculator" and value is None:
                raise misfit((key,), f"{key} is missing: a calculator's answer depends on it")
            if self.role != "calculator" and value is not None:
                raise misfit((key,), f"{key} is for the role calculator only, not {self.role}")
        if self.role != "calculator" and self.border is not None:
            raise misfit(("border",), f"border is for the role calculator only, not {self.role}")
        if self.similarity is not None and not 0 < self.similarity[0] < 2:
            why = "it is the distance of similarity 0.5, and unit embeddings are 0 to 2 apart"
            raise misfit(
                ("similarity", 0),
                f"similarity.0: must be between 0 and 2, not {self.similarity[0]:g}: {why} "
                "(the order is [distance, steepness], like [1.1, 6.0])",
            )
        return self

    @model_validator(mode="after")
    def _has_fitting_files(self) -> ModelSpec:
        every: list[str] = []
        choices: list[ModelSpec | Alternative] = [self, *self.alternatives]
        for number, files in enumerate(choices):
            below = ("alternatives", number - 1) if number else ()
            before = "".join(f"{part}." for part in below)
            fault = _input_fault(self.role, files.input or self.input) or _format_fault(
                self.role, files, every
            )
            if fault is not None:
                raise misfit((*below, *fault[0]), before + fault[1])
            every += [PurePosixPath(file.path).name for file in files.files]
        return self


def _input_fault(role: Role, given: Input) -> tuple[tuple[str, ...], str] | None:
    """Where the input does not fit the role, and why."""
    if role != "detector" and given.size is None:
        why = "only a detector accepts pictures of any size"
        return ("input", "size"), f"input.size: {why}; give the side in pixels"
    if role == "detector" and given.mean is None:
        why = "a detector's picture is not standardised"
        hint = "0 and 1 leave the pixels as they are, 0 to 255"
        return ("input",), f"input: mean and scale are missing: {why} ({hint})"
    return None


def _format_fault(
    role: Role, given: ModelSpec | Alternative, others: list[str]
) -> tuple[tuple[str, ...], str] | None:
    """Where the files do not fit their format, and why; `others`: names of the model's others."""
    networks = NETWORKS.get(given.format, ())
    if networks and given.network not in networks:
        problem = "missing" if given.network is None else f"{given.network!r} does not fit"
        why = f"a file in the format {given.format} has no graph"
        return ("network",), f"network: {problem}: {why}; write {' or '.join(networks)}"
    if not networks and given.network is not None:
        why = f"a file in the format {given.format} has its own graph; leave the key out"
        return ("network",), f"network: {why}"
    if role == "detector" and given.format not in ("onnx", "mxnet"):
        return ("format",), f"format: a detector is onnx or mxnet, not {given.format}"
    names = [PurePosixPath(file.path).name for file in given.files]
    if len({*names, *others}) != len(names) + len(others):
        return ("files",), "files: two files have the same name in different folders"
    needed = _missing_files(given.format, names)
    if needed:
        return ("files",), f"files: the format {given.format} needs {needed}"
    return None


def _missing_files(format: Format, names: list[str]) -> str:
    """The files that a model of this format needs; empty if `names` has them."""
    if format == "mxnet":
        kinds = sorted(name.rpartition(".")[2] for name in names)
        return "" if kinds == ["json", "params"] else "two files: *-symbol.json and *.params"
    if format == "tensorflow-checkpoint":
        complete = any(name.endswith(".index") for name in names) and len(names) > 1
        return "" if complete else "an *.index file and its *.data files"
    if format == "tensorflow-saved-model":
        return "" if "saved_model.pb" in names else "a file saved_model.pb"
    return "" if len(names) == 1 else "exactly one file"
