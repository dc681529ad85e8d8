"""Single-stage detectors: one network run per picture, decoded by the detector's family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.geometry import scale_down
from compreface_engine.core.nms import suppress
from compreface_engine.core.types import BoundingBox, Detection, Image
from compreface_engine.models.inputs import InputSpec
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.runtimes.base import Session

# As in OpenCV's `FaceDetectorYN`; with a threshold of 0 every anchor is a candidate.
_MOST_CANDIDATES: Final = 5000
_FAR: Final = float(1 << 24)  # px; beyond it float32 does not distinguish whole pixels


@dataclass(frozen=True, slots=True)
class Candidates:
    """N boxes that may be faces, several of which may be the same face.

    float32 `boxes` [N, 4] (x1, y1, x2, y2), `scores` [N] in 0..1, `points` [N, 5, 2] (x, y), in
    pixels of the network's input.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    points: NDArray[np.float32]


def concatenated(parts: Sequence[Candidates]) -> Candidates:
    """The candidates of all strides."""
    return Candidates(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.points for part in parts]),
    )


Read: TypeAlias = Callable[[Sequence[NDArray[Any]], tuple[int, int], float], Candidates]
"""Decodes outputs: (outputs for one picture, (height, width) of the input, threshold) to the
candidates above the threshold. Raises ValueError for outputs that are not the family's.
"""


@dataclass(frozen=True, slots=True)
class Family:
    """What detectors of one architecture share.

    `overlap`: above this intersection over union (whole pixels, both ends inclusive) the box with
    the lower score is suppressed. `multiple`: sides are padded to multiples of so many pixels.
    `clip`: boxes are clipped to the picture, and those without area inside it are dropped.
    """

    read: Read
    default_min_score: float
    overlap: float
    multiple: int
    clip: bool


class SingleStageDetector:
    """A detector that runs one network once per picture; see `Detector`.

    The picture is scaled down to the length limit and padded with black on the right and at the
    bottom, so that coordinates do not change. Pictures run singly: on a CPU a batch costs more.
    """

    def __init__(
        self,
        session: Session,
        family: Family,
        *,
        version: str,
        inputs: InputSpec,
        length_limit: int,
        outputs: Sequence[str] | None = None,
    ) -> None:
        """`inputs.size`: the side of the network's input, 0 where it takes any height and width.

        `length_limit`: px of the longer side, 0 for none. `outputs`: names in the family's order,
        by default the session's.
        """
        self.version = version
        self.default_min_score = family.default_min_score
        self._session = session
        self._family = family
        self._inputs = inputs
        size = inputs.size
        self._length_limit = min(size, length_limit or size) if size else length_limit
        self._outputs = tuple(outputs or session.outputs)

    def detect(self, images: Sequence[Image], *, min_score: float) -> list[list[Detection]]:
        """Faces of each image with a probability above `min_score`, best first."""
        return [self._detect(image, min_score) for image in images]

    def whole(self, image: Image) -> Detection:
        """The whole picture as one face."""
        height, width = image.shape[:2]
        return Detection(BoundingBox(0, 0, width, height, 1.0), None)

    def _detect(self, image: Image, min_score: float) -> list[Detection]:
        scaled = scale_down(image, self._length_limit)
        height, width = scaled.image.shape[:2]
        faces = self._faces(scaled.image, min_score)
        boxes = np.trunc(faces.boxes)
        if self._family.clip:
            boxes = boxes.clip(0, np.array([width, height, width, height], np.float32))
        points = faces.points * (1 / scaled.coefficient)
        detections = []
        for corners, score, five in zip(boxes, faces.scores, points, strict=True):
            x1, y1, x2, y2 = (int(value) for value in corners)
            box = scaled.box_to_original(x1, y1, x2, y2, float(score))
            if not self._family.clip or (box.x_max > box.x_min and box.y_max > box.y_min):
                detections.append(Detection(box, five))
        return detections

    def _faces(self, image: Image, min_score: float) -> Candidates:
        """One candidate per face, best first; of equal scores the first of the network."""
        size = self._canvas(*image.shape[:2])
        feeds = {self._session.inputs[0]: input_tensor(image, self._inputs, size)}
        outputs = self._session.run(feeds, self._outputs)
        with np.errstate(over="ignore", invalid="ignore"):
            candidates = self._family.read(outputs, size, min_score)
        boxes, scores, points = candidates.boxes, candidates.scores, candidates.points
        valid = (np.abs(boxes) < _FAR).all(axis=1)  # false for NaN
        valid &= (np.abs(points) < _FAR).all(axis=(1, 2))
        last_first = np.flatnonzero(valid)[::-1]  # `suppress` prefers the later of equal scores
        kept = suppress(
            boxes[last_first],
            scores[last_first],
            self._family.overlap,
            of_best=_MOST_CANDIDATES,
        )
        picked = last_first[kept]
        return Candidates(boxes[picked], scores[picked], points[picked])

    def _canvas(self, height: int, width: int) -> tuple[int, int]:
        if self._inputs.size:
            return self._inputs.size, self._inputs.size
        step = self._family.multiple
        return -(-height // step) * step, -(-width // step) * step


def input_tensor(image: Image, spec: InputSpec, size: tuple[int, int]) -> NDArray[np.float32]:
    """float32 [1, 3, *size] ([1, *size, 3] for `nhwc`) of an RGB picture, padded with black.

    `spec.mean` and `spec.scale` must be numbers.
    """
    height, width = image.shape[:2]
    tensor = np.empty((1, 3, *size), np.float32)
    channels = cv2.split(image) if spec.colour == "rgb" else cv2.split(image)[::-1]
    for plane, channel, mean, scale in zip(
        tensor[0], channels, spec.mean or (), spec.scale or (), strict=True
    ):
        inside = plane[:height, :width]
        inside[:] = channel
        plane[height:] = 0
        plane[:height, width:] = 0
        if mean:
            plane -= np.float32(mean)
        if scale != 1:
            plane /= np.float32(scale)
    return tensor if spec.layout == "nchw" else np.ascontiguousarray(tensor.transpose(0, 2, 3, 1))


def load(notation: Notation, context: Context, family: Family) -> SingleStageDetector:
    """The detector over the notation's model. Raises ConfigurationError if that does not fit."""
    model = context.model(notation.model, notation.text, "detector")
    if model.inputs.mean is None or model.inputs.scale is None:
        raise ConfigurationError(
            f"{notation.text}: the model in {model.path.parent} gives no `mean` and `scale` for "
            "its input. Prepare it again with both (0 and 1 leave values as they are)."
        )
    return SingleStageDetector(
        context.open(model),
        family,
        version=notation.version,
        inputs=model.inputs,
        length_limit=context.length_limit,
        outputs=model.outputs,
    )
