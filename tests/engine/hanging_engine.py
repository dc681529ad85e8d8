"""`python -m tests.engine.hanging_engine`: the real engine, with a detector that hangs on demand.

A picture of 7 pixels' height hangs its worker, one of 9 hangs while it holds Python's lock, one of
11 takes a moment, one of 13 a minute in many parts, and one of 15 breaks the detector.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Sequence

from compreface_engine.__main__ import main
from compreface_engine.core.parallel import ParallelMap
from compreface_engine.core.types import BoundingBox, Detection, Image
from compreface_engine.plugins import registry
from compreface_engine.plugins.api import Detector
from compreface_engine.plugins.context import Context

HANGS, HOLDS_THE_LOCK, BRIEF, IN_PARTS, BREAKS = 7, 9, 11, 13, 15
BRIEF_S = 0.7
_FOR_EVER_S = 600


class Hanging:
    """A detector without detections that can hang."""

    version = "hanging.FaceDetector"
    default_min_score = 0.5

    def __init__(self, spread: ParallelMap) -> None:
        self._spread = spread

    def detect(self, images: Sequence[Image], *, min_score: float) -> list[list[Detection]]:
        (image,) = images
        print(f"detecting in {image.shape[0]} rows", file=sys.stderr, flush=True)
        if image.shape[0] == HANGS:
            time.sleep(_FOR_EVER_S)
        elif image.shape[0] == HOLDS_THE_LOCK:
            ctypes.PyDLL(None).sleep(_FOR_EVER_S)  # PyDLL: the lock is kept during the call
        elif image.shape[0] == IN_PARTS:
            self._spread(lambda _: time.sleep(0.02), range(5000))
        elif image.shape[0] == BRIEF:
            time.sleep(BRIEF_S)
        elif image.shape[0] == BREAKS:
            raise RuntimeError("the detector is broken")
        return [[self.whole(image)]]

    def whole(self, image: Image) -> Detection:
        return Detection(BoundingBox(0, 0, image.shape[1], image.shape[0], 1.0), None)


def _load(text: str, context: Context) -> Detector:
    seconds = float(os.environ.get("LOADS_FOR_S", "0"))
    if seconds:  # with the lock held, as a compiler in C may
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return Hanging(context.parallel_map)


if __name__ == "__main__":
    registry.detector = _load
    sys.exit(main(sys.argv[1:]))
