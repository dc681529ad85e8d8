"""The calculator: crops in, embeddings out, whatever the network."""

from __future__ import annotations

import numpy as np

from compreface_engine.core.types import Crops, CropSpec, Embeddings
from compreface_engine.plugins.batches import slices
from compreface_engine.plugins.inputs import InputSpec
from compreface_engine.runtimes.base import Session

_BATCH = 4  # beyond this FaceNet gains nothing on a CPU, and memory grows with it


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
    ) -> None:
        """`unit_length`: rows are divided by their Euclidean norm before they leave."""
        self.version = version
        self.crop = crop
        self.similarity_coefficients = similarity
        self.dimension = dimension
        self._session = session
        self._inputs = inputs
        self._unit_length = unit_length

    def embed(self, crops: Crops) -> Embeddings:
        """float32 [N, dimension], one row a crop."""
        name, output = self._session.inputs[0], self._session.outputs[0]
        rows = [np.empty((0, self.dimension), np.float32)]
        for part in slices(len(crops), _BATCH):
            tensor = self._inputs.tensor(crops[part])
            rows.append(self._session.run({name: tensor}, [output])[0])
        embeddings = np.concatenate(rows).astype(np.float32, copy=False)
        if self._unit_length:
            norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
            embeddings = embeddings / np.maximum(norms, np.finfo(np.float32).tiny)
        return embeddings
