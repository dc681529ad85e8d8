"""The input of a network: channel order, layout and normalisation of crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compreface_engine.core.types import Crops

PerChannel: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How a crop of `size` px becomes the input of a network.

    `mean` and `scale` (per channel in `colour` order, for values 0..255) give (x - mean) / scale.
    Where they are None, each crop is standardised over all its pixels and channels, as FaceNet was
    trained.
    """

    size: int
    layout: Literal["nchw", "nhwc"] = "nchw"
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: PerChannel | None = None
    scale: PerChannel | None = None

    def tensor(self, crops: Crops) -> NDArray[np.float32]:
        """float32 [N, 3, S, S] (or [N, S, S, 3]) of RGB crops, uint8 0..255 or float64 0..1."""
        values = crops if self.colour == "rgb" else crops[..., ::-1]
        normalised: NDArray[np.float32] | NDArray[np.float64]
        if self.mean is None or self.scale is None:
            normalised = _standardised(values)
        else:
            scaled = values.astype(np.float32)
            if crops.dtype != np.uint8:
                scaled *= 255
            scaled -= np.array(self.mean, np.float32)
            scaled /= np.array(self.scale, np.float32)
            normalised = scaled
        if self.layout == "nchw":
            normalised = normalised.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(normalised, np.float32)


def _standardised(crops: Crops) -> NDArray[np.float64]:
    """(v - mean) / max(deviation, 1 / sqrt(N)) crop by crop, in float64 (contract section 12.4)."""
    values = crops.astype(np.float64)
    axes = (1, 2, 3)
    least = 1 / np.sqrt(values[0].size) if len(values) else 1.0
    values -= values.mean(axis=axes, keepdims=True)
    deviation = np.sqrt((values * values).mean(axis=axes, keepdims=True))
    values *= 1 / np.maximum(deviation, least)
    return values
