"""106 landmarks of a face by InsightFace's 2d106det, from the upright square around its box."""

from __future__ import annotations

from functools import partial
from typing import Final

import numpy as np

from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import PreparedModel
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.plugins.network import NetworkAnalyzer, Row, load, upstreams
from compreface_engine.plugins.square_crop import SquareCrop

# The one network of upstream's InsightFace family besides the masks that sees RGB (section 13.1).
_UPSTREAMS_INPUT: Final = InputSpec(192, mean=(0.0,) * 3, scale=(1.0,) * 3)
_VALUES: Final = 212
_INSTEAD: Final = "landmarks2d106.Landmarks2d106Detector@NAME"


def make_upstream(notation: Notation, context: Context) -> NetworkAnalyzer:
    """Upstream's plugin: the centre of the box in whole pixels."""
    model = upstreams(notation, context, _UPSTREAMS_INPUT, _INSTEAD)
    return _over(notation, context, model, SquareCrop(model.inputs.size, whole_centre=True))


def make(notation: Notation, context: Context) -> NetworkAnalyzer:
    """Any prepared 2d106det, cut as InsightFace's own package cuts."""
    model = context.model(notation.model, notation.text, "analyzer")
    return _over(notation, context, model, SquareCrop(model.inputs.size))


def _over(
    notation: Notation, context: Context, model: PreparedModel, cut: SquareCrop
) -> NetworkAnalyzer:
    network, _ = load(notation, context, model, cut, (_VALUES,))
    return NetworkAnalyzer(
        network,
        partial(_points, cut),
        version=notation.version,
        slug="landmarks2d106",
        key="landmarks",
    )


def _points(cut: SquareCrop, row: Row, face: FaceContext) -> list[list[int]]:
    """[[x, y] x 106] px of the image, truncated toward zero; rounded to float32 first, as upstream.

    The network gives shares of half the crop from its middle.
    """
    points = (row.reshape(-1, 2) + np.float32(1)) * np.float32(cut.size // 2)
    found = cut.back(points, face.detection.box).astype(np.float32)
    whole: list[list[int]] = found.astype(int).tolist()
    return whole
