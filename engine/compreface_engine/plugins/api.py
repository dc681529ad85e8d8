"""The protocols of detectors, calculators and analyzers. A plugin inherits nothing from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from compreface_engine.core.types import Attribute, Crops, CropSpec, Detection, Embeddings, Image


@dataclass(frozen=True, slots=True)
class FaceContext:
    """One face of one request, as an analyzer gets it.

    `image` is the original uint8 RGB image; `crop` [1, S, S, 3] is cut as the analyzer declares,
    None if it declares no crop. `memo` holds what analyzers share about this face, by any key.
    """

    image: Image
    detection: Detection
    crop: Crops | None
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


class Detector(Protocol):
    """Finds faces. Thread-safe."""

    version: str  # the configured notation, echoed exactly, e.g. `facenet.FaceDetector`
    default_min_score: float

    def detect(self, images: Sequence[Image], *, min_score: float) -> list[list[Detection]]:
        """Detections per image, in the detector's own order, in pixels of the original image.

        Only those with a probability strictly greater than `min_score`, 0..1.
        """
        ...

    def whole(self, image: Image) -> Detection:
        """The pseudo face of `detect_faces=false`: the whole image, with probability 1.0."""
        ...


class Calculator(Protocol):
    """Computes embeddings. Thread-safe."""

    version: str
    similarity_coefficients: tuple[float, float]  # of (tanh((c0 - distance) * c1) + 1) / 2
    crop: CropSpec
    dimension: int

    def embed(self, crops: Crops) -> Embeddings:
        """float32 [N, dimension], one embedding a crop; `crops` are cut as `crop` says."""
        ...


class Analyzer(Protocol):
    """Computes one attribute of a face (landmarks, pose, age, ...). Thread-safe."""

    version: str
    slug: str  # name in `face_plugins`, `execution_time` and `available_plugins`
    key: str  # answer key
    crop: CropSpec | None
    needs_landmarks: bool  # True: skipped when detection is off

    def analyze(self, faces: Sequence[FaceContext]) -> list[Attribute]:
        """One attribute per face, in order."""
        ...
