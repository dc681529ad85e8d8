"""Upstream's InsightFace calculators: ArcFace networks fed with BGR, embeddings as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from compreface_engine.core.types import Align
from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import check_input
from compreface_engine.plugins.calculator import NetworkCalculator, make_prepared
from compreface_engine.plugins.context import Context, Notation

# Similarity coefficients of upstream's models (contract section 11.3).
SIMILARITY: Final[Mapping[str, tuple[float, float]]] = {
    "arcface_mobilefacenet": (1.26538905, 5.552089201),
    "arcface_r100_v1": (1.23132175, 6.602259425),
    "arcface_resnet34": (1.2462842, 5.981636853),
    "arcface_resnet50": (1.2375747, 5.973354538),
    "arcface-r50-msfdrop75": (1.2350148, 7.071431642),
    "arcface-r100-msfdrop75": (1.224676, 6.322647217),
    "arcface_mobilefacenet_casia_masked": (1.22507105, 7.321198934),
}
# Upstream hands RGB to code that was written for BGR (contract section 13.1).
INPUT: Final = InputSpec(112, colour="bgr", mean=(0.0,) * 3, scale=(1.0,) * 3)


def make_calculator(notation: Notation, context: Context) -> NetworkCalculator:
    """Upstream's calculator; embeddings are not normalised."""
    model = context.model(notation.model, notation.text, "calculator")
    check_input(model, INPUT, notation.text, "custom.Calculator@NAME")
    return make_prepared(
        notation,
        context,
        align=Align.ARCFACE5,
        similarity=SIMILARITY[notation.model],
        unit_length=False,
    )
