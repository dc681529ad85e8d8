"""The MTCNN detector: the bundled cascade, with CompreFace's margins around each box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.geometry import scale_down
from compreface_engine.core.types import BoundingBox, Detection, Image
from compreface_engine.plugins.context import Context, Notation
from compreface_engine.plugins.embedded import MODELS
from compreface_engine.plugins.mtcnn_cascade import Mtcnn

# Margins in shares of the width or height MTCNN gives (contract section 12.3).
_LEFT, _TOP = 0.2125984251968504, 0.10526315789473684
_RIGHT, _BOTTOM = 0.2230769230769231, 0.09868421052631579


class MtcnnDetector:
    """MTCNN on the scaled-down picture, boxes widened by CompreFace's margins; see `Detector`."""

    default_min_score = 0.85

    def __init__(
        self, mtcnn: Mtcnn, *, version: str, length_limit: int, whole_pixel_landmarks: bool
    ) -> None:
        """`length_limit` px of the longer side, 0 for none.

        `whole_pixel_landmarks` truncates points in the scaled-down picture, as upstream does; an
        aligned calculator is better served by exact ones.
        """
        self.version = version
        self._mtcnn = mtcnn
        self._length_limit = length_limit
        self._whole_pixels = whole_pixel_landmarks

    def detect(self, images: Sequence[Image], *, min_score: float) -> list[list[Detection]]:
        """Faces of each image with a probability above `min_score`, in MTCNN's order."""
        return [self._detect(image, min_score) for image in images]

    def whole(self, image: Image) -> Detection:
        """The whole picture as one face."""
        height, width = image.shape[:2]
        return Detection(BoundingBox(0, 0, width, height, 1.0), None)

    def _detect(self, image: Image, min_score: float) -> list[Detection]:
        scaled = scale_down(image, self._length_limit)
        height, width = scaled.image.shape[:2]
        faces = self._mtcnn.find(scaled.image)
        detections = []
        for corners, score, points in zip(faces.boxes, faces.scores, faces.points, strict=True):
            x1, y1, x2, y2 = _with_margins(corners, width, height)
            box = scaled.box_to_original(x1, y1, x2, y2, float(score))
            # A box without area has no crop; upstream fails on it.
            if score > min_score and box.x_max > box.x_min and box.y_max > box.y_min:
                detections.append(Detection(box, self._landmarks(points, scaled.coefficient)))
        return detections

    def _landmarks(self, points: NDArray[np.float32], coefficient: float) -> NDArray[np.float64]:
        exact = points.astype(np.float64)
        if self._whole_pixels:
            np.trunc(exact, out=exact)
        return exact * (1 / coefficient)


def _with_margins(
    corners: NDArray[np.float64], width: int, height: int
) -> tuple[int, int, int, int]:
    """MTCNN's box truncated, widened and clipped to a `width` x `height` picture."""
    x1, y1, x2, y2 = corners.tolist()
    x, y = max(0, int(x1)), max(0, int(y1))
    w, h = int(x2 - x), int(y2 - y)
    return (
        int(max(x - _LEFT * w, 0)),
        int(max(y - _TOP * h, 0)),
        int(min(x + w + _RIGHT * w, width)),
        int(min(y + h + _BOTTOM * h, height)),
    )


def make_upstream(notation: Notation, context: Context) -> MtcnnDetector:
    """Upstream's `facenet.FaceDetector`: landmarks in whole pixels."""
    return _make(notation, context, whole_pixel_landmarks=True)


def make_embedded(notation: Notation, context: Context) -> MtcnnDetector:
    """The same networks for an aligned calculator: landmarks at full precision."""
    return _make(notation, context, whole_pixel_landmarks=False)


def _make(notation: Notation, context: Context, *, whole_pixel_landmarks: bool) -> MtcnnDetector:
    files = (MODELS / f"mtcnn_{net}.onnx" for net in ("pnet", "rnet", "onet"))
    sessions = (context.open_session(file) for file in files)
    return MtcnnDetector(
        Mtcnn(*sessions, parallel_map=context.parallel_map, idle_workers=context.idle_workers),
        version=notation.version,
        length_limit=context.length_limit,
        whole_pixel_landmarks=whole_pixel_landmarks,
    )
