"""The engine's data types, with the shape, dtype, range, colour order and unit of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""uint8 [H, W, 3], RGB, 0..255, C-contiguous."""

Landmarks: TypeAlias = NDArray[np.floating[Any]]
"""float [5, 2], (x, y) px of the original image: left eye, right eye, nose, left and right mouth
corner."""

Crops: TypeAlias = NDArray[np.uint8] | NDArray[np.float64]
"""[N, S, S, 3], RGB: uint8 0..255 for aligned crops, float64 0..1 for FaceNet's box crops."""

Embeddings: TypeAlias = NDArray[np.float32]
"""float32 [N, D]; whether the rows have unit length depends on the calculator."""


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """Integer pixels of the original image, maxima exclusive, with its probability in 0..1."""

    x_min: int
    y_min: int
    x_max: int
    y_max: int
    probability: float

    @property
    def area(self) -> int:
        """Square pixels."""
        return (self.x_max - self.x_min) * (self.y_max - self.y_min)


@dataclass(frozen=True, slots=True)
class Detection:
    """One detected face; `landmarks` are None for `detect_faces=false` only."""

    box: BoundingBox
    landmarks: Landmarks | None


class Align(Enum):
    """How a crop is cut out of the image."""

    ARCFACE5 = "arcface5"  # five-point similarity onto the ArcFace template, bilinear, uint8
    FACENET_MARGIN = "facenet-margin"  # the detector's box, anti-aliased resize, float64 0..1


@dataclass(frozen=True, slots=True)
class CropSpec:
    """The crop that a plugin needs: its side in pixels, and how it is cut."""

    size: int
    align: Align


@dataclass(frozen=True, slots=True)
class Attribute:
    """An analyzer's result for one face: the JSON value of its answer key."""

    value: Any
