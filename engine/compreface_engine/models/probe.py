"""Face crops to measure a network with: two real faces in varied photographic conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError

_FOLDER: Final = Path(__file__).parents[1] / "probe_faces"
_FACES: Final = ("astronaut.jpg", "grace_hopper.jpg")
_SMALLEST: Final = 30  # px: smaller faces are rarely detected
_OUT_OF_FOCUS: Final = (6, 8, 16)  # px of the 224 that the portraits have
_TILT: Final = 25.0  # degrees


def real_faces(size: int) -> NDArray[np.uint8]:
    """uint8 RGB [26, size, size, 3]: two faces in thirteen variants each.

    Unchanged, 60 and 30 px wide, out of focus in four degrees, tilted, dark, overexposed, lit from
    one side, of low contrast, in warm light, without colour. Rounding costs most accuracy where a
    face is blurred or overexposed (docs/decisions/runtime-choice.md); drawn faces, like all that a
    network was not trained on, would overstate it. Raises ConfigurationError if the files are
    missing.
    """
    faces = [_variants(_FOLDER / name, size) for name in _FACES]
    # Both in turn, so that the first few, which are timed, are a typical batch.
    return np.stack([picture for pair in zip(*faces, strict=True) for picture in pair])


def _variants(path: Path, size: int) -> list[NDArray[np.uint8]]:
    face = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if face is None:
        raise ConfigurationError(f"{path} is missing or damaged; install the engine again")
    plain = cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA)
    # As blurred as the background of a portrait: a thirtieth of the face's width.
    blurred = cv2.GaussianBlur(plain, (0, 0), size / 30)
    tilt = cv2.getRotationMatrix2D((size / 2, size / 2), _TILT, 1.0)
    slope = np.linspace(0.2, 1.6, size)[None, :, None]
    grey = cv2.cvtColor(plain, cv2.COLOR_RGB2GRAY)
    variants = (
        plain,
        _from(face, 2 * _SMALLEST, size),
        _from(face, _SMALLEST, size),
        *(_from(cv2.GaussianBlur(face, (0, 0), sigma), _SMALLEST, size) for sigma in _OUT_OF_FOCUS),
        cv2.warpAffine(blurred, tilt, (size, size), borderMode=cv2.BORDER_REPLICATE),
        plain[:, ::-1] * 0.2,
        plain * 2.5,
        plain * slope,
        plain * 0.3 + 100,
        plain * np.array((1.3, 1.0, 0.6)),
        np.repeat(grey[..., None], 3, axis=2),
    )
    return [np.clip(variant, 0, 255).astype(np.uint8) for variant in variants]


def _from(face: NDArray[Any], few: int, size: int) -> NDArray[np.uint8]:
    """The face as cropped from a picture in which it is `few` px wide."""
    small = cv2.resize(face, (few, few), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
