"""The calculator over one network: crops in, embeddings out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.parallel import ParallelMap, no_idle_workers, serial_map
from compreface_engine.core.types import Align, Crops, CropSpec, Embeddings
from compreface_engine.models.inputs import InputSpec
from compreface_engine.plugins.batches import rows_per_run, slices
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.runtimes.base import Session

_BATCH = 6  # faces; beyond this FaceNet gains nothing on a CPU, and memory grows with it


class NetworkCalculator:
    """A calculator over one session; see `Calculator`."""

    def __init__(
        self,
        session: Session,
        *,
        version: str,
        crop: CropSpec,
        inputs: InputSpec,
        similarity: tuple[float, float],
        dimension: int,
        unit_length: bool,
        parallel_map: ParallelMap = serial_map,
        idle_workers: Callable[[], int] = no_idle_workers,
        rows: int | None = None,
    ) -> None:
        """`unit_length`: embeddings are divided by their Euclidean norm.

        `parallel_map` runs batches in parallel; `idle_workers` gives the number of workers that
        could help. `rows`: the most faces of one run; None for what is best on a CPU.
        """
        self.version = version
        self.crop = crop
        self.similarity_coefficients = similarity
        self.dimension = dimension
        self._session = session
        self._inputs = inputs
        self._unit_length = unit_length
        self._parallel_map = parallel_map
        self._idle_workers = idle_workers
        self._rows = rows or _BATCH

    def embed(self, crops: Crops) -> Embeddings:
        """float32 [N, dimension], one embedding a crop."""
        name, output = self._session.inputs[0], self._session.outputs[0]

        def embed(part: slice) -> NDArray[Any]:
            return self._session.run({name: self._inputs.tensor(crops[part])}, [output])[0]

        most = rows_per_run(len(crops), self._rows, self._idle_workers())
        rows = self._parallel_map(embed, list(slices(len(crops), most)))
        embeddings = np.concatenate((np.empty((0, self.dimension), np.float32), *rows)).astype(
            np.float32, copy=False
        )
        if self._unit_length:
            norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
            embeddings = embeddings / np.maximum(norms, np.finfo(np.float32).tiny)
        return embeddings


def make_prepared(
    notation: Notation,
    context: Context,
    *,
    align: Align | None = None,
    similarity: tuple[float, float] | None = None,
    unit_length: bool,
) -> NetworkCalculator:
    """The calculator over the prepared model of the notation.

    `similarity` overrides the manifest's. Raises ConfigurationError for a model whose faces are
    not aligned as `align` says.
    """
    model = context.model(notation.model, notation.text, "calculator")
    described = model.embedding
    if described is None:
        raise ConfigurationError(f"{notation.text}: {model.path.parent} describes no embedding.")
    if align is not None and described.align is not align:
        raise ConfigurationError(
            f"{notation.text}: the model in {model.path.parent} takes faces aligned by "
            f"`{described.align.value}`, and this plugin aligns them by `{align.value}`. "
            "Give it another name and use custom.Calculator@NAME."
        )
    return NetworkCalculator(
        context.open(model),
        version=notation.version,
        crop=CropSpec(model.inputs.size, described.align),
        inputs=model.inputs,
        similarity=similarity or described.similarity,
        dimension=described.dimension,
        unit_length=unit_length,
        parallel_map=context.parallel_map,
        idle_workers=context.idle_workers,
        rows=context.rows,
    )


def make_custom(notation: Notation, context: Context) -> NetworkCalculator:
    """`custom.Calculator`: any prepared model, its embeddings at unit length."""
    return make_prepared(notation, context, unit_length=True)
