"""A model of a build: its files, and how a picture must be given to it.

`Model` is the one shape of a `models:` entry in the command line. `builds.spec_entry` checks what a
build file may say there, and the converter reads what `Model.entry` gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from compreface_cli.plugin_table import Format, Network, Role


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A weights file: its path below a mirror, its accepted SHA-256 values, its sources."""

    path: str
    sha256: tuple[str, ...]  # empty: unknown, `up` stops until one is accepted
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Border:
    """Where a calculator's similarity parts one person from another; the rest in percent of pairs.

    `at` is the similarity of equal error, `sure` the least from there on that at most 0.1 % of
    different people reach: `sure_different` do, and `sure_same` of one person's pairs do not. None
    where nobody has measured it.
    """

    at: float
    equal_error: float | None = None
    sure: float | None = None
    sure_different: float | None = None
    sure_same: float | None = None
    set: str = ""  # the pairs that it was measured on


@dataclass(frozen=True, slots=True)
class Model:
    """A model to be prepared before the engine starts (the embedded ones are none)."""

    name: str
    role: Role
    format: Format
    files: tuple[ModelFile, ...]
    size: int | None  # None: any height and width
    layout: Literal["nchw", "nhwc"]
    colour: Literal["rgb", "bgr"]
    mean: tuple[float, ...] | None  # None: each crop is standardised (FaceNet)
    scale: tuple[float, ...] | None
    align: Literal["arcface5", "facenet-margin"] | None  # calculators only, as similarity
    similarity: tuple[float, float] | None
    border: Border | None = None
    network: Network | None = None  # for files without a graph
    keep_source: bool = False  # the runtime loads the source files, so they stay beside the ONNX
    # of the build file, where a relative path is looked for first; "": none
    build_folder: str = ""

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any], build_folder: str = "") -> Model:
        """The model of a checked entry: plain data, as a build file or the catalogue has it."""
        inputs, similarity = entry["input"], entry.get("similarity")
        return cls(
            name=entry["name"],
            role=entry["role"],
            format=entry["format"],
            files=tuple(
                ModelFile(
                    file["path"],
                    tuple(_several(file.get("sha256"))),
                    tuple(file.get("sources") or ()),
                )
                for file in entry["files"]
            ),
            size=inputs["size"],
            layout=inputs.get("layout", "nchw"),
            colour=inputs.get("colour", "rgb"),
            mean=_channels(inputs.get("mean")),
            scale=_channels(inputs.get("scale")),
            align=entry.get("align"),
            similarity=None if similarity is None else (float(similarity[0]), float(similarity[1])),
            border=Border(**entry["border"]) if entry.get("border") else None,
            network=entry.get("network"),
            build_folder=build_folder,
        )

    def entry(self) -> dict[str, Any]:
        """The fields of the entry that say what to make of its files: the converter's `--spec`."""
        entry: dict[str, Any] = {
            "name": self.name,
            "role": self.role,
            "format": self.format,
            "files": [{"path": file.path, "sha256": list(file.sha256)} for file in self.files],
            "input": {
                "size": self.size,
                "layout": self.layout,
                "colour": self.colour,
                "mean": _plain(self.mean),
                "scale": _plain(self.scale),
            },
        }
        if self.network is not None:
            entry["network"] = self.network
        if self.similarity is not None:
            entry |= {"align": self.align, "similarity": list(self.similarity)}
        return entry


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _channels(value: Any) -> tuple[float, ...] | None:
    """One number for all three channels, or a list of three."""
    return None if value is None else tuple(float(number) for number in _several(value))


def _plain(values: tuple[float, ...] | None) -> float | list[float] | None:
    """The inverse of `_channels`."""
    if values is None:
        return None
    return values[0] if len(values) == 1 else list(values)
