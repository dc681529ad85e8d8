"""RetinaFace as InsightFace's MXNet models have it: anchors of whole pixels, three strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import check_input
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.plugins.single_stage import (
    Candidates,
    Family,
    SingleStageDetector,
    concatenated,
    load,
)

# Contract section 13.2: anchor sides by stride, in the order of the network's outputs.
_STRIDES: Final = ((32, (512.0, 256.0)), (16, (128.0, 64.0)), (8, (32.0, 16.0)))
_FIRST_CENTRE: Final = 7.5
_ANCHORS: Final = 2
_CHANNELS: Final = (4, 8, 20)  # background and face, box, five points; for two anchors

_UPSTREAMS_INPUT: Final = InputSpec(0, colour="bgr", mean=(0.0,) * 3, scale=(1.0,) * 3)


def read(outputs: Sequence[NDArray[Any]], size: tuple[int, int], min_score: float) -> Candidates:
    """Decodes nine maps [1, C, h, w]: scores, box and landmark deltas for strides 32, 16 and 8.

    Boxes are not clipped. Landmark deltas have the factor 1 in all models, as upstream reads them:
    `retinaface_mnet025_v2` was trained with 0.2, so its landmarks lie too far apart, and stored
    embeddings depend on that.
    """
    if len(outputs) != 3 * len(_STRIDES):
        raise ValueError(f"a RetinaFace network has 9 outputs, not {len(outputs)}")
    parts = []
    for index, (stride, sides) in enumerate(_STRIDES):
        maps = outputs[3 * index : 3 * index + 3]
        cells = tuple(-(-side // stride) for side in size)
        for values, channels in zip(maps, _CHANNELS, strict=True):
            if values.shape != (1, channels, *cells):
                raise ValueError(
                    f"the output for stride {stride} has the shape {list(values.shape)}, "
                    f"not {[1, channels, *cells]}"
                )
        parts.append(_read_stride(maps, stride, sides, min_score))
    return concatenated(parts)


def _read_stride(
    maps: Sequence[NDArray[Any]], stride: int, sides: tuple[float, ...], min_score: float
) -> Candidates:
    scores, deltas, marks = (values[0] for values in maps)
    height, width = scores.shape[1:]
    faces = scores[_ANCHORS:].transpose(1, 2, 0)
    row, column, anchor = np.nonzero(faces > np.float32(min_score))
    deltas = deltas.reshape(_ANCHORS, 4, height, width)[anchor, :, row, column]
    marks = marks.reshape(_ANCHORS, 5, 2, height, width)[anchor, :, :, row, column]
    side = np.array(sides)[anchor, None]
    anchor_centre = np.stack((column, row), axis=1) * stride + _FIRST_CENTRE
    # float64 until the end, but for exp, as in the library that upstream uses.
    centre = deltas[:, :2] * side + anchor_centre
    half = (np.exp(deltas[:, 2:]) * side - 1) * 0.5
    return Candidates(
        np.hstack((centre - half, centre + half)).astype(np.float32),
        faces[row, column, anchor],
        (marks * side[:, None] + anchor_centre[:, None]).astype(np.float32),
    )


FAMILY: Final = Family(read, default_min_score=0.8, overlap=0.4, multiple=1, clip=False)


def make(notation: Notation, context: Context) -> SingleStageDetector:
    """`retinaface.FaceDetector`: any prepared RetinaFace, with the manifest's colour order."""
    return load(notation, context, FAMILY)


def make_upstream(notation: Notation, context: Context) -> SingleStageDetector:
    """`insightface.FaceDetector`: upstream's detector, fed with BGR as upstream does."""
    model = context.model(notation.model, notation.text, "detector")
    check_input(model, _UPSTREAMS_INPUT, notation.text, "retinaface.FaceDetector@NAME")
    return load(notation, context, FAMILY)
