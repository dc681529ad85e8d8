"""A model of a build: its files, and the input that it expects.

`Model` is the only representation of a `models:` entry in the command line. `builds.spec_entry`
validates the entry of a build file, and the converter reads the output of `Model.entry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from compreface_cli.plugin_table import Format, Network, Role


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A weights file: its path below a mirror, its accepted SHA-256 values, its sources."""

    path: str
    sha256: tuple[str, ...]  # empty: unknown, `up` stops until its hash is accepted
    sources: tuple[str, ...]  # one line each, as models.sources reads them
    bytes: int | None = None  # its size; None: not known


@dataclass(frozen=True, slots=True)
class Border:
    """The similarity thresholds of a calculator, and their error rates in percent of pairs.

    `at`: the similarity of equal error rates (`equal_error`). `sure`: the lowest similarity from
    there on that at most 0.1 % of pairs of different people reach; `sure_different` of these pairs
    reach it, and `sure_same` of the pairs of one person do not. None: not measured.
    """

    at: float
    equal_error: float | None = None
    sure: float | None = None
    sure_different: float | None = None
    sure_same: float | None = None
    set: str = ""  # name of the measured set of pairs


@dataclass(frozen=True, slots=True)
class Model:
    """A model that is prepared before the engine starts, which the embedded ones need not be."""

    name: str
    role: Role
    format: Format
    files: tuple[ModelFile, ...]
    size: int | None  # None: any height and width
    layout: Literal["nchw", "nhwc"]
    colour: Literal["rgb", "bgr"]
    mean: tuple[float, ...] | None  # None: each crop is standardised by its own values (FaceNet)
    scale: tuple[float, ...] | None
    align: Literal["arcface5", "facenet-margin"] | None  # calculators only, as similarity
    similarity: tuple[float, float] | None
    border: Border | None = None
    network: Network | None = None  # for files without a graph
    keep_source: bool = False  # keep the source files beside the ONNX: the runtime loads them
    build_folder: str = ""  # folder of the build file, searched first for the files; "": none
    alternatives: tuple[Model, ...] = ()  # the same network from other files, tried after its own

    @property
    def choices(self) -> tuple[Model, ...]:
        """The models without alternatives that it may be prepared from, in order.

        A runtime that loads the source files takes one format only.
        """
        return (
            replace(self, alternatives=()),
            *(
                replace(other, keep_source=self.keep_source, build_folder=self.build_folder)
                for other in self.alternatives
                if other.format == self.format or not self.keep_source
            ),
        )

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any], build_folder: str = "") -> Model:
        """The model of a validated entry, as plain data of a build file or the catalogue."""
        inputs, similarity = entry["input"], entry.get("similarity")
        alternatives = tuple(
            cls.from_entry(
                {
                    **{key: value for key, value in entry.items() if key != "alternatives"},
                    "network": None,
                    **other,
                    "input": other.get("input") or entry["input"],
                },
                build_folder,
            )
            for other in entry.get("alternatives") or ()
        )
        return cls(
            name=entry["name"],
            role=entry["role"],
            format=entry["format"],
            files=tuple(
                ModelFile(
                    file["path"],
                    tuple(_several(file.get("sha256"))),
                    tuple(file.get("sources") or ()),
                    file.get("bytes"),
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
            alternatives=alternatives,
        )

    def entry(self) -> dict[str, Any]:
        """The fields of the entry that the conversion depends on: the converter's `--spec`."""
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
    """A number for all three channels or a list of three, as a tuple of one or three."""
    return None if value is None else tuple(float(number) for number in _several(value))


def _plain(values: tuple[float, ...] | None) -> float | list[float] | None:
    """The inverse of `_channels`."""
    if values is None:
        return None
    return values[0] if len(values) == 1 else list(values)
