"""A public peer behind HTTP with given weights; runs in the peers' environment.

    python -m bench.peer_server PORT {insightface|uniface} DETECTOR.onnx RECOGNISER.onnx AT_ONCE

DETECTOR is an SCRFD file, RECOGNISER an ArcFace-like network for 112 x 112 px crops. Each peer is
used through its public analysis class with its defaults.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson

from bench.minimal_http import serve


def insightface(detector: Path, recogniser: Path) -> Callable[[Any], list[Any]]:
    from insightface.app import FaceAnalysis

    folder = _folder()
    shutil.copy(detector, folder / "det.onnx")
    shutil.copy(recogniser, folder / "rec.onnx")
    app = FaceAnalysis(
        name=str(folder),
        allowed_modules=["detection", "recognition"],
        providers=["CPUExecutionProvider"],
    )
    app.prepare(ctx_id=-1, det_size=(640, 640))

    def analyse(image: Any) -> list[Any]:
        return [(face.bbox, face.det_score, face.normed_embedding) for face in app.get(image)]

    return analyse


def uniface(detector: Path, recogniser: Path) -> Callable[[Any], list[Any]]:
    # It accepts a detector's file only under a known name and hash.
    folder = _folder()
    os.environ["UNIFACE_CACHE_DIR"] = str(folder)
    from uniface.analyzer import FaceAnalyzer
    from uniface.constants import SCRFDWeights
    from uniface.detection import SCRFD
    from uniface.recognition.base import BaseRecognizer, PreprocessConfig

    class Given(BaseRecognizer):  # type: ignore[misc]
        """Its recogniser class with the given file."""

        def __init__(self) -> None:
            super().__init__(
                model_path=str(recogniser),
                preprocessing=PreprocessConfig(),
                providers=["CPUExecutionProvider"],
            )

    weights = SCRFDWeights.SCRFD_500M_KPS
    shutil.copy(detector, folder / f"{weights.value}.onnx")
    providers = ["CPUExecutionProvider"]
    detector = SCRFD(model_name=weights, input_size=(640, 640), providers=providers)
    analyzer = FaceAnalyzer(detector=detector, recognizer=Given())

    def analyse(image: Any) -> list[Any]:
        return [(f.bbox, f.confidence, f.embedding) for f in analyzer.analyze(image)]

    return analyse


def _folder() -> Path:
    """A folder that exists as long as the process, since a peer may read its files late."""
    folder = Path(tempfile.mkdtemp(prefix="peer-"))
    atexit.register(shutil.rmtree, folder)
    return folder


PEERS = {"insightface": insightface, "uniface": uniface}


def main() -> None:
    port, name, detector, recogniser, at_once = sys.argv[1:6]
    analyse = PEERS[name](Path(detector), Path(recogniser))

    def scan(data: bytes) -> bytes:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError("no picture")
        result = []
        for box, score, embedding in analyse(image):
            left, top, right, bottom = (int(value) for value in box)
            corners = {"x_min": left, "y_min": top, "x_max": right, "y_max": bottom}
            face = {"box": {"probability": float(score), **corners}}
            result.append({**face, "embedding": np.asarray(embedding, np.float64).reshape(-1)})
        return orjson.dumps({"result": result}, option=orjson.OPT_SERIALIZE_NUMPY)

    serve(scan, int(port), int(at_once))


if __name__ == "__main__":
    main()
