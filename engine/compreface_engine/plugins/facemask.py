"""Whether a face wears a mask: upstream's two networks, and any with two classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.geometry import whole_crop
from compreface_engine.core.types import Align, CropSpec, Image
from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import PreparedModel
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.plugins.network import (
    CropFace,
    NetworkAnalyzer,
    Row,
    best_label,
    declared_crop,
    load,
    softmax,
    upstream_model,
)

_LABELS: Final = ("without_mask", "with_mask", "mask_weared_incorrect")  # upstream's spelling
_TWO_LABELS: Final = ("with_mask", "without_mask")
# Mean and deviation of ImageNet for values up to 255 (contract section 13.6).
_GLUON_INPUT: Final = InputSpec(224, mean=(123.675, 116.28, 103.53), scale=(58.395, 57.12, 57.375))
_GLUON_CROP: Final = CropSpec(112, Align.ARCFACE5)
# The crop's own 0..1, no other normalisation (section 12.6).
_KERAS_INPUT: Final = InputSpec(100, mean=(0.0,) * 3, scale=(255.0,) * 3)
_KERAS_CROP: Final = CropSpec(160, Align.FACENET_MARGIN)
_INSTEAD: Final = "facemask.MaskDetector@NAME"


def make_gluon(notation: Notation, context: Context) -> NetworkAnalyzer:
    """Upstream's `insightface.facemask`: the enlarged five-point crop in RGB; three scores."""
    model = upstream_model(notation, context, _GLUON_INPUT, _INSTEAD)
    return _three(notation, context, model, _enlarged, _GLUON_CROP, softmax)


def make_keras(notation: Notation, context: Context) -> NetworkAnalyzer:
    """Upstream's `facenet.facemask`: FaceNet's crop at 100 px; three probabilities."""
    model = upstream_model(notation, context, _KERAS_INPUT, _INSTEAD)
    return _three(notation, context, model, _cubic, _KERAS_CROP, np.asarray)


def make(notation: Notation, context: Context) -> NetworkAnalyzer:
    """Any network with the probabilities of a mask and of none, over exactly the face's box."""
    model = context.model(notation.model, notation.text, "analyzer")
    network, _ = load(
        notation,
        context,
        model,
        BoxCrop(model.inputs.size),
        (len(_TWO_LABELS),),
        probabilities=True,
    )
    return NetworkAnalyzer(
        network,
        lambda row, _: best_label(row, _TWO_LABELS),
        version=notation.version,
        slug="mask",
        needs_landmarks=True,
    )


def _three(
    notation: Notation,
    context: Context,
    model: PreparedModel,
    crop_face: CropFace,
    crop: CropSpec,
    probabilities: Callable[[Row], Row],
) -> NetworkAnalyzer:
    network, _ = load(notation, context, model, crop_face, (len(_LABELS),))
    return NetworkAnalyzer(
        network,
        lambda row, _: best_label(probabilities(row), _LABELS),
        version=notation.version,
        slug="mask",
        crop=crop,
        needs_landmarks=True,  # left out without detection, as upstream does
    )


def _enlarged(face: FaceContext) -> NDArray[np.float64]:
    """float64 [224, 224, 3], 0..1: bilinear over the float values of the five-point crop."""
    side = (_GLUON_INPUT.size,) * 2
    large = cv2.resize(declared_crop(face).astype(np.float32), side, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float64) / 255


def _cubic(face: FaceContext) -> NDArray[np.float64]:
    """float64 [100, 100, 3]: FaceNet's crop, bicubic, which may leave 0..1."""
    side = (_KERAS_INPUT.size,) * 2
    return np.asarray(
        cv2.resize(declared_crop(face), side, interpolation=cv2.INTER_CUBIC), np.float64
    )


@dataclass(frozen=True, slots=True)
class BoxCrop:
    """A `CropFace`: the part of the box inside the image, stretched to a square."""

    size: int

    def __call__(self, face: FaceContext) -> Image:
        """uint8 [size, size, 3], RGB; black for a box outside the image."""
        box = face.detection.box
        rows = slice(max(0, box.y_min), max(0, box.y_max))
        columns = slice(max(0, box.x_min), max(0, box.x_max))
        part: NDArray[Any] = face.image[rows, columns]
        if not part.size:
            return np.zeros((self.size, self.size, 3), np.uint8)
        return whole_crop(part, self.size)
