"""Stands in for an engine whose every word is set by the test; speaks the contract's two routes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from compreface_cli import resources
from compreface_cli.instance.state import Endpoint

CALCULATOR = "test.Calculator"


def face(box: tuple[int, int, int, int], embedding: list[float]) -> dict[str, Any]:
    sides = dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True))
    return {"box": {**sides, "probability": 0.99}, "embedding": embedding}


@dataclass
class TalkingEngine:
    """`answers`: portrait name -> (status, document); any other picture has no face."""

    calculator: str = CALCULATOR
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    delay_s: float = 0.0
    status: tuple[int, Any] | None = None  # the answer of /status, if another than OK
    raw: bytes | None = None  # sent instead of any JSON
    asked: list[str] = field(default_factory=list)

    def says(self, portrait: str, *faces: dict[str, Any]) -> None:
        self.answers[portrait] = (200, {"result": list(faces), "plugins_versions": {}})

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        self.asked.append(path)
        time.sleep(self.delay_s)
        if path.startswith("/status"):
            if self.status is not None:
                return self.status
            return 200, {"status": "OK", "calculator_version": self.calculator}
        for portrait, answer in self.answers.items():
            if (resources.portraits_dir() / portrait).read_bytes() in body:
                return answer
        return 400, {"message": "400 Bad Request: No face is found in the given image"}


@contextmanager
def serving(engine: TalkingEngine) -> Iterator[Endpoint]:
    """The engine on a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, document = engine.answer(self.path, body)
            data = json.dumps(document).encode() if engine.raw is None else engine.raw
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(BrokenPipeError):  # who asked did not wait for it
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Endpoint("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
