"""The annotated noses of the sample photographs, and how many of them a detector finds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import numpy as np

from compreface_engine.core.geometry import scale_down
from compreface_engine.core.image import decode
from compreface_engine.core.types import Image
from compreface_engine.plugins.api import Detector
from tests.shared import shared


@dataclass(frozen=True)
class Found:
    """Noses in a box of their own, boxes left over, distances to the nose in box widths."""

    noses: int
    left_over: int
    distances: list[float]


@cache
def _samples() -> list[tuple[Image, list[tuple[float, float]]]]:
    """Each photograph as detectors see it, the longer side at most 640 px, and its noses."""
    folder = shared("faces", "compreface-samples")
    described = json.loads((folder / "annotations.json").read_text())["images"]
    samples = []
    for name, face in described.items():
        image = decode((folder / name).read_bytes(), max_pixels=40_000_000).image
        small = scale_down(image, 640)
        samples.append(
            (
                small.image,
                [(x * small.coefficient, y * small.coefficient) for x, y in face["noses"]],
            )
        )
    return samples


def find_noses(detector: Detector) -> Found:
    """What `detector` finds of 46 noses, at its own threshold; needs the shared folder."""
    left_over, distances = 0, []
    for image, noses in _samples():
        (faces,) = detector.detect([image], min_score=detector.default_min_score)
        left = list(faces)
        for x, y in noses:
            for face in left:
                box = face.box
                if box.x_min <= x < box.x_max and box.y_min <= y < box.y_max:
                    left.remove(face)
                    assert face.landmarks is not None
                    off = np.hypot(*(face.landmarks[2] - (x, y)))
                    distances.append(float(off) / (box.x_max - box.x_min))
                    break
        left_over += len(left)
    return Found(len(distances), left_over, distances)
