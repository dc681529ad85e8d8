"""106 landmarks of a face by InsightFace's 2d106det, from the upright square around its box."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import PreparedModel
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.plugins.network import NetworkAnalyzer, Row, load, upstream_model
from compreface_engine.plugins.square_crop import SquareCrop

# Of upstream's InsightFace networks only this one and the masks' get RGB (section 13.1).
_UPSTREAMS_INPUT: Final = InputSpec(192, mean=(0.0,) * 3, scale=(1.0,) * 3)
_VALUES: Final = 212
_INSTEAD: Final = "landmarks2d106.Landmarks2d106Detector@NAME"


def make_upstream(notation: Notation, context: Context) -> NetworkAnalyzer:
    """Upstream's plugin: the box's centre is rounded down to whole pixels."""
    model = upstream_model(notation, context, _UPSTREAMS_INPUT, _INSTEAD)
    return _make(notation, context, model, SquareCrop(model.inputs.size, whole_centre=True))


def make(notation: Notation, context: Context) -> NetworkAnalyzer:
    """Any prepared 2d106det, cropped as InsightFace's own package crops."""
    model = context.model(notation.model, notation.text, "analyzer")
    return _make(notation, context, model, SquareCrop(model.inputs.size))


def _make(
    notation: Notation, context: Context, model: PreparedModel, crop_face: SquareCrop
) -> NetworkAnalyzer:
    network, _ = load(notation, context, model, crop_face, (_VALUES,))
    return NetworkAnalyzer(
        network,
        partial(_points, crop_face),
        version=notation.version,
        slug="landmarks2d106",
        key="landmarks",
    )


def _points(crop_face: SquareCrop, row: Row, face: FaceContext) -> list[list[int]]:
    """[[x, y] x 106] px of the image, rounded to float32 and then truncated, as upstream.

    The network gives offsets from the crop's centre in units of half its side.
    """
    in_crop = (row.reshape(-1, 2) + np.float32(1)) * np.float32(crop_face.size // 2)
    in_image = crop_face.to_image(in_crop, face.detection.box).astype(np.float32)
    points: list[list[int]] = in_image.astype(int).tolist()
    return points
