"""A stand-in for the Docker engine: answers GETs on a Unix socket or a TCP port from a table."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

VERSION = {"Version": "26.1.5", "ApiVersion": "1.45", "MinAPIVersion": "1.24", "Arch": "amd64"}
ANSWERS: Mapping[str, Any] = {
    "/version": VERSION,
    "/info": {
        "DockerRootDir": "/",
        "NCPU": 4,
        "MemTotal": 8_000_000_000,
        "Runtimes": {"runc": {}, "nvidia": {}},
        "CDISpecDirs": ["/etc/cdi"],
        "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}],
    },
    "/images/json": [
        {"Id": "sha256:1", "RepoTags": ["a:latest"], "RepoDigests": None, "Size": 5, "Labels": None}
    ],
    "/containers/json": [],
    "/volumes": {"Volumes": None},
    "/networks": [],
}


def _has(row: Mapping[str, Any], label: str) -> bool:
    name, given, value = label.partition("=")
    labels = row.get("Labels") or {}
    return name in labels and (not given or labels[name] == value)


class _Handler(BaseHTTPRequestHandler):
    answers: Mapping[str, Any] = {}

    def do_GET(self) -> None:
        parts = urlsplit(re.sub(r"^/v1\.\d+", "", self.path))
        path = parts.path
        status, body = 200, self.answers.get(path)
        if body is None:
            status, body = 404, {"message": f"no such thing: {path}"}
        elif isinstance(body, tuple):
            status, body = body
        filters = json.loads(dict(parse_qsl(parts.query)).get("filters", "{}"))
        for label in filters.get("label", ()) if isinstance(body, list) else ():
            body = [row for row in body if _has(row, label)]
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def engine(answers: Mapping[str, Any], socket: Path | None = None) -> Iterator[str]:
    """Serve `answers` (path -> JSON, or (status, JSON)); yields its DOCKER_HOST."""
    handler = type("Handler", (_Handler,), {"answers": answers})
    server: socketserver.BaseServer
    if socket is None:
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        host = f"tcp://127.0.0.1:{server.server_address[1]}"
    else:
        server = socketserver.ThreadingUnixStreamServer(str(socket), handler)
        host = f"unix://{socket}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
