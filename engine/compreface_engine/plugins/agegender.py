"""Upstream's `agegender` plugins: Inception v3 over FaceNet's standardised crop, in eight ages."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from compreface_engine.core.types import Align, CropSpec
from compreface_engine.models.inputs import InputSpec
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.plugins.network import (
    NetworkAnalyzer,
    Row,
    best_label,
    declared_crop,
    load,
    upstream_model,
)

# Labels in the order of the networks' outputs (contract section 12.5).
_AGES: Final = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))
_GENDERS: Final = ("male", "female")
# Standardised crop by crop. Upstream feeds whatever crop its detector makes, 112 px after
# InsightFace's; the networks were trained on FaceNet's crop, and get it here after every detector.
_INPUT: Final = InputSpec(160)
_CROP: Final = CropSpec(160, Align.FACENET_MARGIN)


def make_age(notation: Notation, context: Context) -> NetworkAnalyzer:
    """One of eight ranges of ages and its probability."""
    model = upstream_model(notation, context, _INPUT, "dlib.AgeDetector@NAME")
    network, _ = load(notation, context, model, declared_crop, (len(_AGES),))
    return NetworkAnalyzer(network, _age, version=notation.version, slug="age", crop=_CROP)


def make_gender(notation: Notation, context: Context) -> NetworkAnalyzer:
    """The gender and its probability."""
    model = upstream_model(notation, context, _INPUT, "dlib.GenderDetector@NAME")
    network, _ = load(notation, context, model, declared_crop, (len(_GENDERS),))
    return NetworkAnalyzer(network, _gender, version=notation.version, slug="gender", crop=_CROP)


def _age(row: Row, _: FaceContext) -> dict[str, Any]:
    best = int(np.argmax(row))
    low, high = _AGES[best]
    return {"low": low, "high": high, "probability": float(row[best])}


def _gender(row: Row, _: FaceContext) -> dict[str, Any]:
    return best_label(row, _GENDERS)
