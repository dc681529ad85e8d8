"""The calculator of the default build, whose network is part of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from compreface_engine.core.types import Align, CropSpec
from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import PreparedModel
from compreface_engine.plugins.calculator import NetworkCalculator
from compreface_engine.plugins.context import Context, Notation

MODELS: Final = Path(__file__).resolve().parent.parent / "embedded_models"
_SIZE: Final = 112


def make_calculator(notation: Notation, context: Context) -> NetworkCalculator:
    """MobileFaceNet-192: 192 values at unit length."""
    inputs = InputSpec(_SIZE, mean=(127.5,) * 3, scale=(128.0,) * 3)
    path = MODELS / "mobilefacenet192_fp16w.onnx"
    return NetworkCalculator(
        context.open(PreparedModel("mobilefacenet192", "calculator", path, inputs)),
        version=notation.version,
        crop=CropSpec(_SIZE, Align.ARCFACE5),
        inputs=inputs,
        similarity=(1.10, 6.0),
        dimension=192,
        unit_length=True,
        parallel_map=context.parallel_map,
        idle_workers=context.idle_workers,
        rows=context.rows,
    )
