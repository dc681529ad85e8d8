"""Stands in for an engine: answers for pictures by their bytes, as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

NO_FACE = (400, {"message": "400 Bad Request: No face is found in the given image"})
BROKEN = (400, {"message": "400 Bad Request: Image has incorrect format or is broken"})
BUSY = (503, {"message": "503 Service Unavailable: too many requests wait"})
STATUS: dict[str, Any] = {
    "status": "OK",
    "build_version": "1.2.0",
    "calculator_version": "custom.Calculator@stand-in",
    "similarity_coefficients": [1.1, 6.0],
    "available_plugins": {
        "calculator": "custom.Calculator@stand-in",
        "detector": "facenet.FaceDetector",
        "landmarks": "facenet.LandmarksDetector",
        "pose": "facenet.PoseEstimator",
    },
}


def a_face(
    x: int = 10, *, embedding: tuple[float, ...] = (1.0, 0.0), **more: Any
) -> dict[str, Any]:
    return {
        "box": {"probability": 0.99, "x_min": x, "y_min": 12, "x_max": x + 30, "y_max": 52},
        "embedding": list(embedding),
        "landmarks": [[x + 8, 22], [x + 22, 22], [x + 15, 30], [x + 9, 40], [x + 21, 40]],
        "pose": {"pitch": 1.4, "roll": -0.2, "yaw": -12.0},
        "execution_time": {"detector": 3},
        **more,
    }


@dataclass
class PictureEngine:
    url: str
    status: Mapping[str, Any] = field(default_factory=lambda: dict(STATUS))
    # by a piece of the picture's bytes: faces, or (status, document); taken in turn, the last stays
    answers: dict[bytes, list[Any]] = field(default_factory=dict)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    cut_short: set[bytes] = field(default_factory=set)  # pieces of pictures cut short

    def answer(self, body: bytes) -> tuple[int, Any]:
        for piece, answers in self.answers.items():
            if piece in body:
                found = answers.pop(0) if len(answers) > 1 else answers[0]
                if isinstance(found, list):
                    return 200, {"result": found, "plugins_versions": {}}
                return int(found[0]), found[1]
        return BROKEN


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    engine: PictureEngine


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._send(200, self.server.engine.status)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        query = parse_qs(urlsplit(self.path).query)
        self.server.engine.asked.append(tuple(query.get("face_plugins", [""])[0].split(",")))
        cut_short = any(piece in body for piece in self.server.engine.cut_short)
        self._send(*self.server.engine.answer(body), cut_short=cut_short)

    def _send(self, status: int, document: Any, *, cut_short: bool = False) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if cut_short:
            self.send_header("X-Image-Truncated", "true")
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def picture_engine() -> Iterator[PictureEngine]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.engine = PictureEngine(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
