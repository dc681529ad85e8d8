"""Pictures to measure a network on: two real faces, as they come in good and in bad photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.errors import ConfigurationError

_FOLDER: Final = Path(__file__).parents[1] / "probe_faces"
_FACES: Final = ("astronaut.jpg", "grace_hopper.jpg")
_DARK: Final = 0.4


def real_faces(size: int) -> NDArray[np.uint8]:
    """uint8 RGB [6, size, size, 3]: each face as it is, from a quarter of the pixels, and darkened
    and mirrored. Six is the usual batch of a calculator.

    Real ones, since a network's rounding errors are up to ten times larger for what it was not
    trained on (docs/decisions/runtime-choice.md). Raises ConfigurationError if they are not there.
    """
    return np.stack([picture for name in _FACES for picture in _ways(_FOLDER / name, size)])


def _ways(path: Path, size: int) -> list[NDArray[np.uint8]]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ConfigurationError(f"{path} is missing or damaged; install the engine again")
    plain = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    few = cv2.resize(picture, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(few, (size, size), interpolation=cv2.INTER_CUBIC)
    dark = (plain[:, ::-1] * _DARK).astype(np.uint8)
    return [np.asarray(way, np.uint8) for way in (plain, coarse, dark)]
