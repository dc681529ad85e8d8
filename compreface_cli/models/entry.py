"""What a model of a build is: its files, and how a picture must be given to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    beside: str = (
        ""  # folder of the build file, where a relative path is looked for first; "": none
    )
