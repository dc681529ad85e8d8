"""Drawn pictures of any number of faces, from a seed: more like faces than like noise."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

_SEED: Final = 20180402


def drawn_faces(size: int, count: int) -> NDArray[np.uint8]:
    """uint8 [count, size, size, 3]: lit ovals with eyes, nose and mouth on a soft backdrop."""
    random = np.random.default_rng(_SEED)
    return np.stack([_face(size, random) for _ in range(count)])


def _face(size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    backdrop: Any = random.uniform(20, 235, (4, 4, 3)).astype(np.float32)
    picture: Any = cv2.resize(backdrop, (size, size), interpolation=cv2.INTER_CUBIC)
    skin = random.uniform((120, 70, 50), (245, 205, 185))
    x, y = random.uniform(0.46, 0.54, 2)

    def oval(right: float, down: float, width: float, height: float, colour: Any) -> None:
        """Radii and the way from the middle, in sides of the picture."""
        middle = round((x + right) * size), round((y + down) * size)
        radii = round(width * size), round(height * size)
        paint = [float(value) for value in colour]
        cv2.ellipse(picture, middle, radii, 0, 0, 360, paint, -1, cv2.LINE_AA)

    oval(0, 0, 0.34, 0.46, skin)
    for side in (-0.15, 0.15):
        oval(side, -0.1, 0.07, 0.035, skin * 0.3 + 150)
        oval(side, -0.1, 0.03, 0.03, random.uniform(10, 90, 3))
        oval(side, -0.18, 0.09, 0.015, skin * 0.4)
    oval(0, 0.06, 0.04, 0.09, skin * 0.85)
    oval(0, 0.22, 0.12, 0.03, (170, 70, 80))
    soft = cv2.GaussianBlur(picture, (0, 0), size / 60)
    slope = np.linspace(-1, 1, size)
    down, across = random.uniform(-0.3, 0.3, 2)
    shade = 1 + down * slope[:, None, None] + across * slope[None, :, None]
    lit = soft * shade + random.normal(0, 4, (size, size, 3))
    return np.asarray(np.clip(lit, 0, 255), np.uint8)
