"""The baseline: MTCNN and FaceNet in TensorFlow behind HTTP, as commonly written today.

    python -m bench.baseline_tensorflow PORT MTCNN.npz FACENET.pb {tuned|plain}

Graph mode (traced functions, the frozen graph in a session), OpenCV for JPEG and resizing, the HTTP
server of the engine. `POST /scan_faces` answers with boxes and embeddings, as the engine does.
tuned: all faces of a picture in one run, two pictures at once. plain: like one process of the
original engine, one face a run, one picture at a time. TensorFlow uses both cores in either.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import cv2
import numpy as np
import orjson
import tensorflow as tf

from bench.baseline_mtcnn import Networks
from bench.minimal_http import serve
from bench.plain_mtcnn import Array, detect

LENGTH_LIMIT = 640
MIN_SCORE = 0.85
# CompreFace's margins: left, top, right, bottom, in shares of MTCNN's box.
MARGINS = (0.2125984251968504, 0.10526315789473684, 0.2230769230769231, 0.09868421052631579)


def load_facenet(path: str) -> Callable[[Array], Array]:
    """The frozen graph: [N, 160, 160, 3] -> [N, 512]."""
    frozen = tf.compat.v1.GraphDef()
    with open(path, "rb") as stream:
        frozen.ParseFromString(stream.read())
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.import_graph_def(frozen, name="")
    session = tf.compat.v1.Session(graph=graph)
    inputs = [graph.get_tensor_by_name(name) for name in ("input:0", "phase_train:0")]
    run = session.make_callable(graph.get_tensor_by_name("embeddings:0"), inputs)
    return lambda crops: run(crops, False)


class Scanner:
    """Both models; shared by all requests."""

    def __init__(self, mtcnn: str, facenet: str, *, batched: bool) -> None:
        self._batched = batched
        with np.load(mtcnn, allow_pickle=False) as weights:
            self._networks = Networks(dict(weights))
        self._facenet = load_facenet(facenet)

    def scan(self, data: bytes) -> bytes:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if decoded is None:
            raise ValueError("no picture")
        image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        faces = self._faces(image)
        if faces:
            crops = np.stack([_crop(image, corners) for corners, _ in faces])
            if self._batched:
                vectors = self._facenet(crops)
            else:
                vectors = np.concatenate([self._facenet(crop[None]) for crop in crops])
            for (_, face), vector in zip(faces, vectors, strict=True):
                face["embedding"] = vector.astype(np.float64)
        result = [face for _, face in faces]
        document = {"calculator_version": "ScannerWithPlugins", "result": result}
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)

    def _faces(self, image: Array) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
        """Boxes with CompreFace's margins, largest first."""
        height, width = image.shape[:2]
        factor = min(1.0, LENGTH_LIMIT / max(height, width))
        small = image
        if factor < 1:
            size = round(width * factor), round(height * factor)
            small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        rows, columns = small.shape[:2]
        faces = []
        for (x, y, w, h), probability in detect(small, self._networks):
            if probability <= MIN_SCORE:
                continue
            corners = (
                int(max(x - MARGINS[0] * w, 0)),
                int(max(y - MARGINS[1] * h, 0)),
                int(min(x + w + MARGINS[2] * w, columns)),
                int(min(y + h + MARGINS[3] * h, rows)),
            )
            left, top, right, bottom = (int(value * (1 / factor)) for value in corners)
            box = {"probability": probability, "x_min": left, "y_min": top}
            box.update(x_max=right, y_max=bottom)
            faces.append(((left, top, right, bottom), {"box": box}))
        return sorted(faces, key=lambda face: -_area(face[0]))


def _area(corners: tuple[int, ...]) -> int:
    left, top, right, bottom = corners
    return (right - left) * (bottom - top)


def _crop(image: Array, corners: tuple[int, ...]) -> Array:
    """The box as FaceNet's input: blurred where it shrinks, 160 x 160, standardised."""
    left, top, right, bottom = corners
    part = image[top:bottom, left:right]
    across, down = (max(0.0, (side / 160 - 1) / 2) for side in (right - left, bottom - top))
    if across > 0 or down > 0:
        part = cv2.GaussianBlur(part, (0, 0), sigmaX=across or 1e-6, sigmaY=down or 1e-6)
    crop = cv2.resize(part, (160, 160), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    deviation = max(float(crop.std()), 1 / np.sqrt(crop.size))
    crop -= crop.mean()
    crop /= np.float32(deviation)
    return np.asarray(crop)


def main() -> None:
    port, mtcnn, facenet = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    tuned = sys.argv[4] == "tuned"
    serve(Scanner(mtcnn, facenet, batched=tuned).scan, port, at_once=2 if tuned else 1)


if __name__ == "__main__":
    main()
