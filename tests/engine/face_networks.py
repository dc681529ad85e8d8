"""Stand-ins for analyzers' networks: prepared folders, sessions that compute what a test says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.types import BoundingBox, Crops, Detection, Image, Landmarks
from compreface_engine.plugins import registry
from compreface_engine.plugins.api import Analyzer, FaceContext
from compreface_engine.plugins.context import Context
from compreface_engine.runtimes.base import Session

Compute: TypeAlias = Callable[[NDArray[Any]], Any]
"""From the batch a network was fed to its rows, [N, D]."""


class Network:
    """Rows by `compute`, which a test may change; `fed` holds each batch it was given."""

    inputs: tuple[str, ...] = ("input",)
    outputs: tuple[str, ...] = ("rows", "other")

    def __init__(self, compute: Compute) -> None:
        self.compute = compute
        self.fed: list[NDArray[Any]] = []

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        assert outputs == ["rows"]
        (batch,) = feeds.values()
        assert batch.dtype == np.float32
        self.fed.append(batch)
        return [np.asarray(self.compute(batch), np.float32)]

    @property
    def batches(self) -> list[int]:
        return [len(batch) for batch in self.fed]


Made: TypeAlias = tuple[Network, Analyzer]
"""A plugin and the network it reads."""


def constant(row: Sequence[float]) -> Compute:
    """The same row for every face."""
    return lambda batch: np.tile(np.asarray(row, np.float32), (len(batch), 1))


def describe(folder: Path, name: str, **inputs: Any) -> None:
    """A prepared analyzer's folder, its weights two words; `inputs` is its input's description."""
    place = folder / name
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(b"no weights")
    described = {
        "schema": 1,
        "name": name,
        "role": "analyzer",
        "file": "model.onnx",
        "sha256": hashlib.sha256(b"no weights").hexdigest(),
        "input": {"layout": "nchw", "colour": "rgb", "mean": 0, "scale": 1} | inputs,
        "outputs": ["rows"],
    }
    (place / "model.json").write_text(json.dumps(described))


def analyzers(texts: Sequence[str], folder: Path, session: Session) -> list[Analyzer]:
    """The plugins of one configuration, all their networks `session`."""
    context = Context(open_session=lambda _: session, models_dir=folder, length_limit=640)
    return [registry.analyzer(text, context) for text in texts]


def analyzer(text: str, folder: Path, network: Network) -> Analyzer:
    """One plugin; what loading fed its network is forgotten."""
    (made,) = analyzers([text], folder, network)
    network.fed.clear()
    return made


def noise(height: int = 96, width: int = 120, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int) -> Image:
    """Ramps and waves, so that a sixteenth of a pixel makes less than a grey level or two."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    channels = (x * 200 / width + 20, y * 200 / height + 20, 128 + 80 * np.sin((x + 2 * y) / 40))
    return np.asarray(np.stack(channels, axis=2), np.uint8)


def face(
    image: Image,
    box: tuple[int, int, int, int] = (20, 20, 60, 70),
    *,
    crop: Crops | None = None,
    landmarks: Landmarks | None = None,
) -> FaceContext:
    """A face in `image`; `crop` [S, S, 3]."""
    given = None if crop is None else crop[None]
    return FaceContext(image, Detection(BoundingBox(*box, 0.9), landmarks), given)


def answers(plugin: Analyzer, faces: Sequence[FaceContext]) -> list[Any]:
    return [attribute.value for attribute in plugin.analyze(faces)]
