"""A registry that takes a push and fails in one way: it stalls, forgets, lies, refuses, breaks."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Registry:
    """What it has, and how it behaves.

    "stalls": it reads no layer. "forgets": it has no manifest afterwards. "lies": it names another
    digest. "refuses": no repository may be written. "breaks": it closes the connection of the first
    `times` manifests. "full": it fails at every upload.
    """

    def __init__(self, behaviour: str = "", times: int = 0) -> None:
        self.behaviour, self.times = behaviour, times
        self.blobs: dict[str, bytes] = {}
        self.uploads: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}  # tag or digest -> type, content
        self.stopping = threading.Event()
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def log_message(self, *words: Any) -> None:
        pass

    def _say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def _last(self) -> str:
        return self.path.partition("?")[0].rpartition("/")[2]

    def do_GET(self) -> None:
        registry = self.registry
        registry.asked.append(f"{self.command} {self.path}")
        if self.path == "/v2/":
            self._say(200)
        elif "/manifests/" in self.path and self._last() in registry.manifests:
            kind, content = registry.manifests[self._last()]
            digest = _digest(content if registry.behaviour != "lies" else b"another")
            self._say(200, content, Content_Type=kind, Docker_Content_Digest=digest)
        elif "/blobs/" in self.path and self._last() in registry.blobs:
            content = registry.blobs[self._last()]
            self._say(200, content, Docker_Content_Digest=self._last())
        else:
            self._say(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}')

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.registry.behaviour == "refuses":
            self._say(403, b'{"errors": [{"code": "DENIED", "message": "access denied"}]}')
            return
        if self.registry.behaviour == "full":
            self._say(500, b'{"errors": [{"code": "UNKNOWN", "message": "unknown error"}]}')
            return
        upload = uuid.uuid4().hex
        self.registry.uploads[upload] = b""
        repository = self.path.partition("/blobs/")[0]
        self._say(202, Location=f"{repository}/blobs/uploads/{upload}", Docker_Upload_UUID=upload)

    def do_PATCH(self) -> None:
        if self.registry.behaviour == "stalls":
            self.registry.stopping.wait(60)
            self.close_connection = True
            return
        self.registry.uploads[self._last()] += self._body()
        length = len(self.registry.uploads[self._last()])
        self._say(202, Location=self.path, Range=f"0-{length - 1}", Docker_Upload_UUID=self._last())

    def do_PUT(self) -> None:
        registry, content = self.registry, self._body()
        if "/uploads/" in self.path:
            whole = registry.uploads.pop(self._last()) + content
            registry.blobs[_digest(whole)] = whole
            self._say(201, Docker_Content_Digest=_digest(whole))
            return
        if registry.behaviour == "breaks" and registry.times > 0:
            registry.times -= 1
            self.close_connection = True
            return
        if registry.behaviour != "forgets":
            kept = (self.headers.get("Content-Type", ""), content)
            registry.manifests |= {self._last(): kept, _digest(content): kept}
        self._say(201, Docker_Content_Digest=_digest(content))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def odd_registry(registry: Registry, address: str = "127.0.0.1") -> Iterator[str]:
    """Serve it by plain HTTP; its host and port."""
    handler = type("Handler", (_Handler,), {"registry": registry})
    server = ThreadingHTTPServer((address, 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{address}:{server.server_port}"
    finally:
        registry.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
