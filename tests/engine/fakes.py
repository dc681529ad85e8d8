"""Fakes: a pipeline without models, and an ASGI client."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compreface_engine.core.errors import BrokenImage
from compreface_engine.core.types import BoundingBox, Image


@dataclass(frozen=True)
class FakeDecoded:
    image: Image
    truncated: bool = False


@dataclass(frozen=True)
class FakeFace:
    box: BoundingBox
    answers: Mapping[str, Any] = field(default_factory=dict)
    execution_time: Mapping[str, int] = field(default_factory=dict)


class FakePipeline:
    """Finds as many faces as the first byte of a picture says: b"2..." has two, the largest first.

    b"!" is not a picture, b"~2" is truncated, b"X" makes the engine fail, b"M" run out of memory.
    Each byte needs 1000 bytes of memory. Scans wait while `go` is cleared.
    """

    plugins: Mapping[str, str] = {"calculator": "fake.Calculator", "detector": "fake.Detector"}
    runtimes: Mapping[str, Any] = {"calculator": {"runtime": "fake"}}
    calculator_version = "fake.Calculator"
    similarity_coefficients = (1.25, 5.5)

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.scans: list[tuple[float | None, bool, frozenset[str]]] = []
        self.most_at_once = 0
        self._running = 0
        self._lock = threading.Lock()

    def decode(
        self, data: bytes | memoryview, reserve: Callable[[int], None] = lambda _: None
    ) -> FakeDecoded:
        data = bytes(data)
        reserve(1000 * len(data))
        truncated = data.startswith(b"~")
        if truncated:
            data = data[1:]
        if data == b"X":
            raise RuntimeError("secret file name")
        if data == b"M":
            raise MemoryError("secret file name")
        if not data[:1].isdigit():
            raise BrokenImage
        return FakeDecoded(np.full((int(data[:1]), 10, 3), 7, np.uint8), truncated)

    def scan(
        self,
        image: Image,
        *,
        min_score: float | None,
        detect: bool,
        slugs: frozenset[str],
        limit: int = 0,
    ) -> Sequence[FakeFace]:
        with self._lock:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
            self.scans.append((min_score, detect, slugs))
        self.go.wait(30)
        with self._lock:
            self._running -= 1
        return [self._face(size, slugs) for size in range(image.shape[0], 0, -1)][: limit or None]

    def versions(self, slugs: frozenset[str], detect: bool) -> Mapping[str, str]:
        return {
            slug: version
            for slug, version in self.plugins.items()
            if slug in slugs or slug == "detector"
        }

    @staticmethod
    def _face(size: int, slugs: frozenset[str]) -> FakeFace:
        box = BoundingBox(0, 0, size, size, 1.0)
        if "calculator" not in slugs:
            return FakeFace(box, {}, {"detector": 3})
        embedding = np.array([0.1, -1e-5, 2.5e-7], np.float32)
        return FakeFace(box, {"embedding": embedding}, {"detector": 3, "calculator": 4})


@dataclass
class AsgiReply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Calls an ASGI application like a server; `leave()` disconnects."""

    def __init__(
        self,
        app: Any,
        method: str,
        path: str,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes | Sequence[bytes] = b"",
        length: int | None = None,
        ends: bool = True,
        client: str = "127.0.0.1",
    ) -> None:
        self._app = app
        pieces = [body] if isinstance(body, bytes) else list(body)
        total = sum(map(len, pieces)) if length is None else length
        raw = [(n.lower().encode(), v.encode()) for n, v in (headers or {}).items()]
        if total and not any(name in (b"content-length", b"transfer-encoding") for name, _ in raw):
            raw.append((b"content-length", b"%d" % total))
        self._scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": raw,
            "client": (client, 50000),
        }
        self._pieces = pieces
        self._ends = ends
        self._gone = asyncio.Event()
        self.taken = 0
        self.reply = AsgiReply()

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if self._pieces and not self._gone.is_set():
            piece = self._pieces.pop(0)
            self.taken += len(piece)
            more = bool(self._pieces) or not self._ends
            return {"type": "http.request", "body": piece, "more_body": more}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.reply.status = message["status"]
            self.reply.headers = {n.decode(): v.decode() for n, v in message["headers"]}
        else:
            self.reply.body += message.get("body", b"")

    async def run(self) -> AsgiReply:
        await self._app(self._scope, self._receive, self._send)
        return self.reply
