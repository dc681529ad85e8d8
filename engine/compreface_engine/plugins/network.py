"""An analyzer over a network: one row of numbers a face, computed once a request."""

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
from compreface_engine.plugins.batches import slices
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.runtimes.base import Session

Row: TypeAlias = NDArray[np.float32]
Cut: TypeAlias = Callable[[FaceContext], NDArray[Any]]
"""The [S, S, 3] RGB pixels a network sees of a face: uint8 0..255 or float64 0..1."""

_ROUNDING = 0.01  # of a sum of probabilities, in half precision
_BATCH = 8  # bounds the memory of a crowd; on a CPU a larger one gains nothing


@dataclass(frozen=True)
class FaceNetwork:
    """A network and how it sees a face; equal ones find each other's rows in a face's memo.

    `batch`: the network takes just so many faces a run; None for any number up to `most`.
    """

    session: Session
    inputs: InputSpec
    cut: Cut
    spread: ParallelMap = field(default=serial_map, compare=False)
    idle: Callable[[], int] = field(default=no_idle_workers, compare=False)
    most: int = field(default=_BATCH, compare=False)
    batch: int | None = field(default=None, compare=False)

    def rows(self, faces: Sequence[FaceContext]) -> list[Row]:
        """float32 [D] a face, in order; only faces without a row run, several at once."""
        new = [face for face in faces if self not in face.memo]
        # One batch costs the least; several are there first where idle hands take some.
        share = -(-len(new) // (1 + self.idle()))
        parts = list(slices(len(new), self.batch or max(1, min(self.most, share))))
        for part, found in zip(
            parts, self.spread(lambda part: self._run(new[part]), parts), strict=True
        ):
            for face, row in zip(new[part], found, strict=True):
                face.memo[self] = row
        return [face.memo[self] for face in faces]

    def tried(self, plugin: str) -> NDArray[np.float32]:
        """The rows [N, D] of black crops. Raises ConfigurationError where that fails."""
        count, side = self.batch or 2, self.inputs.size
        black: Crops = np.zeros((count, side, side, 3), np.uint8)
        try:
            return self._infer(black)
        except Exception as error:  # a network that does not fit its description fails its own way
            raise ConfigurationError(
                f"{plugin}: its network cannot run on {count} pictures of {side} x {side} pixels: "
                f"{error}. Check the model's `input` and prepare it again with "
                "`python -m compreface_convert`."
            ) from error

    def _run(self, faces: Sequence[FaceContext]) -> NDArray[np.float32]:
        return self._infer(np.stack([self.cut(face) for face in faces]))

    def _infer(self, crops: Crops) -> NDArray[np.float32]:
        tensor, count = self.inputs.tensor(crops), len(crops)
        if self.batch is not None and count < self.batch:
            tensor = np.concatenate(
                (tensor, np.zeros_like(tensor[:1]).repeat(self.batch - count, 0))
            )
        (found,) = self.session.run({self.session.inputs[0]: tensor}, [self.session.outputs[0]])
        return found.reshape(len(tensor), -1)[:count].astype(np.float32, copy=False)


class NetworkAnalyzer:
    """Reads its answer from a network's row; see `Analyzer`."""

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
        """`read` makes the JSON value of `key` (by default the slug) of a row and its face."""
        self.version = version
        self.slug = slug
        self.key = key or slug
        self.crop = crop
        self.needs_landmarks = needs_landmarks
        self._network = network
        self._read = read

    def analyze(self, faces: Sequence[FaceContext]) -> list[Attribute]:
        """One attribute a face."""
        rows = self._network.rows(faces)
        return [Attribute(self._read(row, face)) for row, face in zip(rows, faces, strict=True)]


def given(face: FaceContext) -> NDArray[Any]:
    """The `Cut` of analyzers that declare a crop. Raises ValueError for a face without one."""
    if face.crop is None:
        raise ValueError("the analyzer was given no crop")
    crop: NDArray[Any] = face.crop[0]
    return crop


def load(
    notation: Notation,
    context: Context,
    model: PreparedModel,
    cut: Cut,
    widths: Sequence[int],
    *,
    shares: bool = False,
) -> tuple[FaceNetwork, int]:
    """The network of `model` and the width of its rows, one of `widths`.

    Raises ConfigurationError where it cannot run or gives something else; with `shares`, rows that
    are no probabilities with the sum 1.
    """
    network = FaceNetwork(
        context.open(model),
        model.inputs,
        cut,
        context.spread,
        context.idle,
        context.rows or _BATCH,
        model.batch,
    )
    rows = network.tried(notation.text)
    width = rows.shape[1]
    if width not in widths:
        raise ConfigurationError(
            f"{notation.text}: the network in {model.path.parent} gives {width} numbers a face, "
            f"where this plugin reads {' or '.join(map(str, widths))}. Name another model."
        )
    if shares and not ((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=_ROUNDING)):
        raise ConfigurationError(
            f"{notation.text}: the network in {model.path.parent} gives "
            f"{', '.join(f'{value:g}' for value in rows[0])} for a black picture, which are no "
            "probabilities with the sum 1. Name another model, or end this one with a softmax."
        )
    return network, width


def upstreams(
    notation: Notation, context: Context, wanted: InputSpec, instead: str
) -> PreparedModel:
    """The prepared model of a plugin whose numbers are upstream's.

    Raises ConfigurationError unless its input is described as `wanted`; see `check_input`.
    """
    model = context.model(notation.model, notation.text, "analyzer")
    check_input(model, wanted, notation.text, instead)
    return model


def softmax(scores: Row) -> Row:
    """float32 shares of 1."""
    powers: Row = np.exp(scores - scores.max())
    powers /= powers.sum()
    return powers


def labelled(row: Row, labels: Sequence[str]) -> dict[str, Any]:
    """`{"value", "probability"}` of the most probable of `labels`; the first of equal ones."""
    best = int(np.argmax(row))
    return {"value": labels[best], "probability": float(row[best])}
