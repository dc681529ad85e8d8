"""What a detector, a calculator and an analyzer are: protocols, batched, no inheritance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from compreface_engine.core.types import Attribute, Crops, CropSpec, Detection, Embeddings, Image


@dataclass(frozen=True, slots=True)
class FaceContext:
    """One face, as an analyzer gets it: original image, detection, crop [1, S, S, 3] if asked.

    `memo` is one face's in one request: what a plugin put there, another one need not compute.
    """

    image: Image
    detection: Detection
    crop: Crops | None
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


class Detector(Protocol):
    """Finds faces. `min_score` in 0..1; kept is what has a probability strictly greater."""

    version: str  # the configured notation, echoed exactly, e.g. `facenet.FaceDetector`
    default_min_score: float

    def detect(self, images: Sequence[Image], *, min_score: float) -> list[list[Detection]]:
        """Detections per image, in the detector's own order, in pixels of the original image."""
        ...

    def whole(self, image: Image) -> Detection:
        """The pseudo face of `detect_faces=false`: the whole picture, probability 1.0."""
        ...


class Calculator(Protocol):
    """Computes embeddings."""

    version: str
    similarity_coefficients: tuple[float, float]  # of (tanh((c0 - distance) * c1) + 1) / 2
    crop: CropSpec
    dimension: int

    def embed(self, crops: Crops) -> Embeddings:
        """Embeddings of `crops`, row by row."""
        ...


class Analyzer(Protocol):
    """Says one thing about a face (landmarks, pose, age, ...)."""

    version: str
    slug: str  # name in `face_plugins`, `execution_time` and `available_plugins`
    key: str  # answer key
    crop: CropSpec | None
    needs_landmarks: bool  # True: left out when detection is off

    def analyze(self, faces: Sequence[FaceContext]) -> list[Attribute]:
        """One attribute a face."""
        ...
