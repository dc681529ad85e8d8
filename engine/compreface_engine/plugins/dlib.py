"""Age and gender by dlib's networks (CC0), from a face aligned by its eyes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from compreface_engine.core.geometry import shrinking_warp, similarity_matrix, whole_crop
from compreface_engine.core.types import Image
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.plugins.network import FaceNetwork, NetworkAnalyzer, Row, best_label, load

_GENDERS: Final = ("female", "male")
_YEARS: Final = 81  # classes 0 to 80, and class 0 stands for the months of the first year
_FIRST_YEAR: Final = 0.25
# Where the eyes' centres lie in dlib's square of a face, and the margin put around it.
_EYES: Final = np.array([(0.2305, 0.2214), (0.7528, 0.2212)])
_MARGIN: Final = 0.2


def make_age(notation: Notation, context: Context) -> NetworkAnalyzer:
    """The range within one standard deviation of the expected age, and its probability."""
    network = _network(notation, context, _YEARS)
    return NetworkAnalyzer(network, _age, version=notation.version, slug="age")


def make_gender(notation: Notation, context: Context) -> NetworkAnalyzer:
    """The gender and its probability."""
    network = _network(notation, context, len(_GENDERS))
    return NetworkAnalyzer(network, _gender, version=notation.version, slug="gender")


def _network(notation: Notation, context: Context, width: int) -> FaceNetwork:
    model = context.model(notation.model, notation.text, "analyzer")
    network, _ = load(notation, context, model, EyeAlignedCrop(model.inputs.size), (width,))
    return network


@dataclass(frozen=True, slots=True)
class EyeAlignedCrop:
    """A `CropFace`: rotated and scaled so that the eyes lie where dlib has them.

    Without landmarks it is the whole image. Where both eyes are one point it is black, since no
    similarity fits them.
    """

    size: int

    def __call__(self, face: FaceContext) -> Image:
        """uint8 [size, size, 3], RGB, black outside the image."""
        marks = face.detection.landmarks
        if marks is None:
            return whole_crop(face.image, self.size)
        if not np.ptp(marks[:2], axis=0).any():
            return np.zeros((self.size, self.size, 3), np.uint8)
        places = (_EYES + _MARGIN) / (1 + 2 * _MARGIN) * self.size
        return shrinking_warp(face.image, similarity_matrix(marks[:2], places), self.size)


def _age(row: Row, _: FaceContext) -> dict[str, Any]:
    shares = row.astype(np.float64)
    years = np.arange(_YEARS, dtype=np.float64)
    years[0] = _FIRST_YEAR
    expected = float(shares @ years)
    deviation = math.sqrt(float(shares @ (years - expected) ** 2))
    low, high = max(0, round(expected - deviation)), min(_YEARS - 1, round(expected + deviation))
    return {"low": low, "high": high, "probability": float(shares[low : high + 1].sum())}


def _gender(row: Row, _: FaceContext) -> dict[str, Any]:
    return best_label(row, _GENDERS)
