"""Analyzers over a network that gives one row of numbers per face, computed once per request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.parallel import ParallelMap, no_idle_workers, serial_map
from compreface_engine.core.types import Attribute, Crops, CropSpec
from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import PreparedModel, check_input
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.batches import rows_per_run, slices
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.runtimes.base import Session

Row: TypeAlias = NDArray[np.float32]
CropFace: TypeAlias = Callable[[FaceContext], NDArray[Any]]
"""Cuts the [S, S, 3] RGB pixels that a network gets of a face: uint8 0..255 or float64 0..1."""

_ROUNDING = 0.01  # error of a sum of probabilities in half precision
_BATCH = 8  # faces; bounds the memory of a crowd, and a larger one gains nothing on a CPU


@dataclass(frozen=True)
class FaceNetwork:
    """A network and how its input is cut; equal ones share their rows through a face's memo.

    `batch`: the fixed number of faces of a run; None where it may be any number up to `most`.
    """

    session: Session
    inputs: InputSpec
    crop_face: CropFace
    parallel_map: ParallelMap = field(default=serial_map, compare=False)
    idle_workers: Callable[[], int] = field(default=no_idle_workers, compare=False)
    most: int = field(default=_BATCH, compare=False)
    batch: int | None = field(default=None, compare=False)

    def rows(self, faces: Sequence[FaceContext]) -> list[Row]:
        """float32 [D] per face, in order; runs in batches, and only for faces without a row."""
        new = [face for face in faces if self not in face.memo]
        most = self.batch or rows_per_run(len(new), self.most, self.idle_workers())
        parts = list(slices(len(new), most))
        batches = self.parallel_map(lambda part: self._run(new[part]), parts)
        for part, rows in zip(parts, batches, strict=True):
            for face, row in zip(new[part], rows, strict=True):
                face.memo[self] = row
        return [face.memo[self] for face in faces]

    def trial_run(self, plugin: str) -> NDArray[np.float32]:
        """The rows [N, D] of black crops. Raises ConfigurationError where the run fails."""
        count, side = self.batch or 2, self.inputs.size
        black: Crops = np.zeros((count, side, side, 3), np.uint8)
        try:
            return self._infer(black)
        except Exception as error:  # each runtime raises its own for a network that does not fit
            raise ConfigurationError(
                f"{plugin}: its network cannot run on {count} pictures of {side} x {side} pixels: "
                f"{error}. Check the model's `input` and prepare it again with "
                "`python -m compreface_convert`."
            ) from error

    def _run(self, faces: Sequence[FaceContext]) -> NDArray[np.float32]:
        return self._infer(np.stack([self.crop_face(face) for face in faces]))

    def _infer(self, crops: Crops) -> NDArray[np.float32]:
        tensor, count = self.inputs.tensor(crops), len(crops)
        if self.batch is not None and count < self.batch:
            tensor = np.concatenate(
                (tensor, np.zeros_like(tensor[:1]).repeat(self.batch - count, 0))
            )
        (rows,) = self.session.run({self.session.inputs[0]: tensor}, [self.session.outputs[0]])
        return rows.reshape(len(tensor), -1)[:count].astype(np.float32, copy=False)


class NetworkAnalyzer:
    """An analyzer that reads its answer from a network's row; see `Analyzer`."""

    def __init__(
        self,
        network: FaceNetwork,
        read: Callable[[Row, FaceContext], Any],
        *,
        version: str,
        slug: str,
        key: str | None = None,
        crop: CropSpec | None = None,
        needs_landmarks: bool = False,
    ) -> None:
        """`read` converts a row and its face to the JSON value of `key` (by default the slug)."""
        self.version = version
        self.slug = slug
        self.key = key or slug
        self.crop = crop
        self.needs_landmarks = needs_landmarks
        self._network = network
        self._read = read

    def analyze(self, faces: Sequence[FaceContext]) -> list[Attribute]:
        """One attribute per face."""
        rows = self._network.rows(faces)
        return [Attribute(self._read(row, face)) for row, face in zip(rows, faces, strict=True)]


def declared_crop(face: FaceContext) -> NDArray[Any]:
    """The `CropFace` of analyzers that declare a crop. Raises ValueError for a face without it."""
    if face.crop is None:
        raise ValueError("the face has no crop")
    crop: NDArray[Any] = face.crop[0]
    return crop


def load(
    notation: Notation,
    context: Context,
    model: PreparedModel,
    crop_face: CropFace,
    widths: Sequence[int],
    *,
    probabilities: bool = False,
) -> tuple[FaceNetwork, int]:
    """The network of `model` and the width of its rows, one of `widths`.

    Raises ConfigurationError where it cannot run or its rows are of another width; with
    `probabilities` also where they are not probabilities that add up to 1.
    """
    network = FaceNetwork(
        context.open(model),
        model.inputs,
        crop_face,
        context.parallel_map,
        context.idle_workers,
        context.rows or _BATCH,
        model.batch,
    )
    rows = network.trial_run(notation.text)
    width = rows.shape[1]
    if width not in widths:
        raise ConfigurationError(
            f"{notation.text}: the network in {model.path.parent} gives {width} numbers a face, "
            f"where this plugin reads {' or '.join(map(str, widths))}. Name another model."
        )
    if probabilities and not (
        (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=_ROUNDING)
    ):
        raise ConfigurationError(
            f"{notation.text}: the network in {model.path.parent} gives "
            f"{', '.join(f'{value:g}' for value in rows[0])} for a black picture, which are not "
            "probabilities that add up to 1. Name another model, or end this one with a softmax."
        )
    return network, width


def upstream_model(
    notation: Notation, context: Context, wanted: InputSpec, instead: str
) -> PreparedModel:
    """The prepared model of an upstream plugin, whose numbers must stay upstream's.

    Raises ConfigurationError unless its input is described as `wanted`; see `check_input`.
    """
    model = context.model(notation.model, notation.text, "analyzer")
    check_input(model, wanted, notation.text, instead)
    return model


def softmax(scores: Row) -> Row:
    """float32 probabilities that add up to 1."""
    powers: Row = np.exp(scores - scores.max())
    powers /= powers.sum()
    return powers


def best_label(row: Row, labels: Sequence[str]) -> dict[str, Any]:
    """`{"value", "probability"}` of the most probable of `labels`, the first among equals."""
    best = int(np.argmax(row))
    return {"value": labels[best], "probability": float(row[best])}
