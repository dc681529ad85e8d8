"""Upstream's FaceNet calculators: standardised crops in, embeddings out as they come."""

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
    "20180402-114759": (1.1817961, 5.291995557),
    "20180408-102900": (1.1362496, 5.803152427),
    "inception_resnetv1_casia_masked": (1.1145709, 4.554903071),
}
# Every crop is standardised over itself (contract section 12.4).
_INPUT: Final = InputSpec(160)


def make_calculator(notation: Notation, context: Context) -> NetworkCalculator:
    """Upstream's calculator; embeddings are not normalised."""
    model = context.model(notation.model, notation.text, "calculator")
    check_input(model, _INPUT, notation.text, "custom.Calculator@NAME")
    return make_prepared(
        notation,
        context,
        align=Align.FACENET_MARGIN,
        similarity=SIMILARITY[notation.model],
        unit_length=False,
    )
