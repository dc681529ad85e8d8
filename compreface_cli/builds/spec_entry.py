"""What a `models:` entry may say: its files, its input, and what belongs to its role and format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from compreface_cli.plugin_table import Format, Network, Role

MODEL_NAME = r"^[A-Za-z0-9]([A-Za-z0-9_-]{0,62}[A-Za-z0-9])?$"
SHA256 = r"^[0-9a-f]{64}$"

Sha256 = Annotated[str, Field(pattern=SHA256)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]
Real = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def misfit(path: tuple[str | int, ...], reason: str) -> PydanticCustomError:
    """A fault at a key below the mapping that is validated."""
    return PydanticCustomError("misfit", "{reason}", {"reason": reason, "path": list(path)})


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


class File(Strict):
    """A weights file: path below a mirror or beside the build file, accepted hashes, addresses."""

    path: Annotated[str, Field(max_length=200), AfterValidator(_inside)]
    sha256: Annotated[list[Sha256], BeforeValidator(_hashes)] = []
    sources: list[Annotated[str, AfterValidator(_source)]] = []


class Input(Strict):
    """How a picture is given to the network; mean and scale null: each crop is standardised.

    `size` null: any height and width, as detectors take them.
    """

    size: Annotated[int, Field(ge=16, le=1024)] | None
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


Percent = Annotated[float, Field(ge=0, le=100)]


class Border(Strict):
    """Where the similarity parts one person from another; all but `at` is what was measured there.

    As `models.types.Border` has it; tools/measure_accuracy.py prints one.
    """

    at: Annotated[float, Field(gt=0, lt=1)]
    equal_error: Percent | None = None
    sure: Annotated[float, Field(gt=0, lt=1)] | None = None
    sure_different: Percent | None = None
    sure_same: Percent | None = None
    set: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _in_order(self) -> Border:
        if self.sure is not None and self.sure < self.at:
            raise misfit(("sure",), f"sure: must be {self.at:g} (at) or more, not {self.sure:g}")
        return self


# The networks that the converter builds itself, for files that hold weights and no graph.
NETWORKS: Mapping[Format, tuple[Network, ...]] = {
    "mxnet-gluon": ("mobilenet_v2", "resnet18_v1"),
    "tensorflow-checkpoint": ("inception_v3_age", "inception_v3_gender"),
}


class ModelSpec(Strict):
    """A model of the build's own or of the catalogue."""

    name: Annotated[str, Field(pattern=MODEL_NAME)]
    role: Role
    format: Format
    network: Network | None = None
    files: Annotated[list[File], Field(min_length=1, max_length=16)]
    input: Input
    align: Literal["arcface5", "facenet-margin"] | None = None
    similarity: tuple[Real, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    border: Border | None = None

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
            why = "unit embeddings are 0 to 2 apart, and here the similarity is to be one half"
            raise misfit(
                ("similarity", 0),
                f"similarity.0: must be between 0 and 2, not {self.similarity[0]:g}: {why} "
                "(the order is [distance, steepness], like [1.1, 6.0])",
            )
        if self.role != "detector" and self.input.size is None:
            why = "only a detector takes pictures of any size"
            raise misfit(("input", "size"), f"input.size: {why}; give the side in pixels")
        if self.role == "detector" and self.input.mean is None:
            why = "a detector's picture is not standardised"
            hint = "0 and 1 give its pixels as they are, 0 to 255"
            raise misfit(("input",), f"input: mean and scale are missing: {why} ({hint})")
        return self

    @model_validator(mode="after")
    def _fits_its_format(self) -> ModelSpec:
        networks = NETWORKS.get(self.format, ())
        if networks and self.network not in networks:
            said = "missing" if self.network is None else f"{self.network!r} does not fit"
            why = f"a file in the format {self.format} has no graph"
            raise misfit(("network",), f"network: {said}: {why}; write {' or '.join(networks)}")
        if not networks and self.network is not None:
            raise misfit(("network",), f"network: a {self.format} file has a graph of its own")
        if self.role == "detector" and self.format not in ("onnx", "mxnet"):
            raise misfit(("format",), f"format: a detector is onnx or mxnet, not {self.format}")
        names = [PurePosixPath(one.path).name for one in self.files]
        if len(set(names)) != len(names):
            raise misfit(("files",), "files: two files have the same name in different folders")
        wrong = _files_of(self.format, names)
        if wrong:
            raise misfit(("files",), f"files: the format {self.format} {wrong}")
        return self


def _files_of(format: Format, names: list[str]) -> str:
    """What is wrong with a model's files for its format, or nothing."""
    if format == "mxnet":
        kinds = sorted(name.rpartition(".")[2] for name in names)
        return "" if kinds == ["json", "params"] else "has two files: *-symbol.json and *.params"
    if format == "tensorflow-checkpoint":
        whole = any(name.endswith(".index") for name in names) and len(names) > 1
        return "" if whole else "has an *.index file and *.data files beside it"
    if format == "tensorflow-saved-model":
        return "" if "saved_model.pb" in names else "has a file saved_model.pb"
    return "" if len(names) == 1 else "has one file"
