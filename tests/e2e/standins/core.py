"""Stands in for the engine and misbehaves on demand: slow, late, crashing, hungry, or wrong."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BEHAVIOUR = os.environ.get("STANDIN_BEHAVIOUR", "well")
STATUS = {
    "available_plugins": {
        "calculator": "embedded.Calculator@mobilefacenet192",
        "detector": "embedded.FaceDetector@mtcnn",
    },
    "build_version": "1.2.0",
    "calculator_version": "embedded.Calculator@mobilefacenet192",
    "similarity_coefficients": [1.1, 6.0],
    "status": "OK",
}


class Handler(BaseHTTPRequestHandler):
    def answer(self, status: int, document: Any) -> None:
        body = (json.dumps(document, separators=(",", ":")) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        if BEHAVIOUR == "late":
            time.sleep(1.5)
        if BEHAVIOUR == "unhealthy":
            self.answer(500, {"message": "500 Internal Server Error: no model"})
        elif self.path.startswith("/status"):
            self.answer(200, STATUS)
        else:
            self.answer(200, {"status": "OK"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # A face, but in no place where the portrait has one.
        box = {"probability": 0.99, "x_min": 1, "y_min": 1, "x_max": 9, "y_max": 9}
        face = {"box": box, "embedding": [0.0] * 191 + [1.0], "execution_time": {"detector": 1}}
        versions = STATUS["available_plugins"]
        self.answer(200, {"plugins_versions": versions, "result": [face]})


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if BEHAVIOUR == "crash":
        print("loading the models", flush=True)
        print("the weights are not what they should be", file=sys.stderr, flush=True)
        sys.exit(3)
    if BEHAVIOUR == "no-model":
        print(
            "compreface-engine: embedded.Calculator needs the model `mobilefacenet192`, but "
            "/models/mobilefacenet192/model.json does not exist. Prepare it with "
            "`python -m compreface_convert`.",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(3)
    if BEHAVIOUR == "sigill":
        signal.signal(signal.SIGILL, signal.SIG_DFL)
        if os.fork():  # as process 1 it would ignore the signal
            sys.exit(128 + (os.wait()[1] & 0x7F))
        os.kill(os.getpid(), signal.SIGILL)
    if BEHAVIOUR == "hungry":
        print("allocating without end", flush=True)
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1 << 20) * 16))
            print(f"{len(hoard) * 16} MiB", flush=True)
    if BEHAVIOUR == "slow":
        print("thinking", flush=True)
        time.sleep(3600)
    ThreadingHTTPServer(("0.0.0.0", 3000), Handler).serve_forever()


if __name__ == "__main__":
    main()
