"""Gender and age by InsightFace's networks: one run a face for both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from compreface_engine.core.types import Align, CropSpec
from compreface_engine.models.inputs import InputSpec
from compreface_engine.plugins.api import FaceContext
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.plugins.network import (
    FaceNetwork,
    NetworkAnalyzer,
    Row,
    best_label,
    declared_crop,
    load,
    softmax,
    upstream_model,
)
from compreface_engine.plugins.square_crop import SquareCrop

# Upstream hands RGB to code that was written for BGR (contract section 13.1).
_UPSTREAMS_INPUT: Final = InputSpec(112, colour="bgr", mean=(0.0,) * 3, scale=(1.0,) * 3)
_GENDERS: Final = ("female", "male")
_PAIRS: Final = 202  # `fc1` of the MXNet file: two gender scores, then a pair a year
_DIRECT: Final = 3  # genderage.onnx: two gender scores, then the age in centuries


def make_upstream_gender(notation: Notation, context: Context) -> NetworkAnalyzer:
    """Upstream's plugin: five-point crop in BGR, probability always 1.0."""
    network = _upstream_network(notation, context)
    return NetworkAnalyzer(
        network, _sure_gender, version=notation.version, slug="gender", crop=_aligned(network)
    )


def make_upstream_age(notation: Notation, context: Context) -> NetworkAnalyzer:
    """Upstream's plugin: low and high are the same, probability always 1.0."""
    network = _upstream_network(notation, context)
    return NetworkAnalyzer(
        network, _age_of_pairs, version=notation.version, slug="age", crop=_aligned(network)
    )


def make_gender(notation: Notation, context: Context) -> NetworkAnalyzer:
    """The gender by either kind of network, fed as its model describes."""
    network, width = _of_any_kind(notation, context)
    crop = _aligned(network) if width == _PAIRS else None
    return NetworkAnalyzer(network, _gender, version=notation.version, slug="gender", crop=crop)


def make_age(notation: Notation, context: Context) -> NetworkAnalyzer:
    """The age by either kind of network; low and high are the same, probability always 1.0."""
    network, width = _of_any_kind(notation, context)
    if width == _PAIRS:
        crop = _aligned(network)
        return NetworkAnalyzer(
            network, _age_of_pairs, version=notation.version, slug="age", crop=crop
        )
    return NetworkAnalyzer(network, _direct_age, version=notation.version, slug="age")


def _upstream_network(notation: Notation, context: Context) -> FaceNetwork:
    instead = f"genderage.{notation.name}@NAME"
    model = upstream_model(notation, context, _UPSTREAMS_INPUT, instead)
    network, _ = load(notation, context, model, declared_crop, (_PAIRS,))
    return network


def _of_any_kind(notation: Notation, context: Context) -> tuple[FaceNetwork, int]:
    """The network and the width of its rows, which tells what they mean and what they need."""
    model = context.model(notation.model, notation.text, "analyzer")
    network, width = load(notation, context, model, declared_crop, (_PAIRS, _DIRECT))
    if width == _DIRECT:
        network = replace(network, crop_face=SquareCrop(model.inputs.size))
    return network, width


def _aligned(network: FaceNetwork) -> CropSpec:
    return CropSpec(network.inputs.size, Align.ARCFACE5)


def _sure_gender(row: Row, _: FaceContext) -> dict[str, Any]:
    return {"value": _GENDERS[int(np.argmax(row[:2]))], "probability": 1.0}


def _gender(row: Row, _: FaceContext) -> dict[str, Any]:
    return best_label(softmax(row[:2]), _GENDERS)


def _age_of_pairs(row: Row, _: FaceContext) -> dict[str, Any]:
    """As many years as there are pairs whose second value is the larger."""
    return _age(int(np.count_nonzero(row[3::2] > row[2::2])))


def _direct_age(row: Row, _: FaceContext) -> dict[str, Any]:
    return _age(max(0, round(float(row[2]) * 100)))


def _age(years: int) -> dict[str, Any]:
    return {"low": years, "high": years, "probability": 1.0}
