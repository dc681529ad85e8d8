"""The square crop around a face's box that InsightFace's networks without alignment take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.types import BoundingBox, Image
from compreface_engine.plugins.api import FaceContext

_MARGIN: Final = 1.5  # the square's side over the longer side of the box


@dataclass(frozen=True, slots=True)
class SquareCrop:
    """A `CropFace`: the square of 1.5 times the box's longer side around its centre, unrotated.

    `size`: px of the crop. `whole_centre` rounds the box's centre down to whole pixels, as upstream
    does (contract section 13.7); InsightFace's own package does not.
    """

    size: int
    whole_centre: bool = False

    def __call__(self, face: FaceContext) -> Image:
        """uint8 [size, size, 3], RGB, bilinear, black outside the image."""
        side = (self.size, self.size)
        crop = cv2.warpAffine(face.image, self.matrix(face.detection.box), side)
        return np.asarray(crop, np.uint8)

    def matrix(self, box: BoundingBox) -> NDArray[np.float64]:
        """[2, 3], from pixels of the image to pixels of the crop."""
        across, down = box.x_min + box.x_max, box.y_min + box.y_max
        x, y = (across // 2, down // 2) if self.whole_centre else (across / 2, down / 2)
        # A box may have lost its area when its sides were rounded.
        longer = max(abs(box.x_max - box.x_min), abs(box.y_max - box.y_min), 1)
        scale = self.size / _MARGIN / longer
        centre = self.size / 2
        return np.array([[scale, 0, centre - x * scale], [0, scale, centre - y * scale]])

    def to_image(self, points: NDArray[np.floating[Any]], box: BoundingBox) -> NDArray[np.float64]:
        """`points` [N, 2] in px of the crop, converted to px of the image."""
        inverse = np.asarray(cv2.invertAffineTransform(self.matrix(box)), np.float64)
        return points.astype(np.float64) @ inverse[:, :2].T + inverse[:, 2]
