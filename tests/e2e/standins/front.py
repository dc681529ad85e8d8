"""The HTTP side of both Java services: 200 threads answer, whatever is beyond them waits."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

WORKERS = 200  # what Tomcat takes unless it is given another number
LARGEST_HEAD = 64 * 1024


class Part(NamedTuple):
    """One part of a multipart form; `filename` is None for a text field."""

    name: str
    filename: str | None
    content_type: str | None
    content: bytes


@dataclass(frozen=True)
class Request:
    """A whole request: header names in lower case; of two equal query names the first counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def parts(self) -> list[Part]:
        """The parts of a multipart body, in their order; none if it is no such form."""
        kind = self.headers.get("content-type", "")
        if not kind.lower().startswith("multipart/form-data") or "boundary=" not in kind:
            return []
        boundary = kind.split("boundary=", 1)[1].split(";")[0].strip().strip('"')
        pieces = (b"\r\n" + self.body).split(b"\r\n--" + boundary.encode())
        return [_part(piece) for piece in pieces[1:-1]]

    def form(self) -> dict[str, str]:
        """The query and, behind it, the text fields of a multipart form."""
        texts = {part.name: part.content.decode() for part in self.parts() if part.filename is None}
        return {**texts, **self.query}


class Answer(NamedTuple):
    """A status, a JSON document (None: no body) and further header lines."""

    status: int
    document: Any = None
    headers: tuple[str, ...] = ()


Handler = Callable[[Request], Answer]


def serve(handler: Handler, port: int = 8080) -> None:
    """Answer for good. SIGTERM ends the process at once, as it ends these Java services."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    asyncio.run(_serve(handler, port))


async def _serve(handler: Handler, port: int) -> None:
    pool = ThreadPoolExecutor(WORKERS)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _exchange(reader, writer, handler, pool):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the caller has gone, or does not speak HTTP
        finally:
            writer.close()

    server = await asyncio.start_server(
        converse, "0.0.0.0", port, limit=LARGEST_HEAD, backlog=100, reuse_address=True
    )
    async with server:
        await server.serve_forever()


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    handler: Handler,
    pool: ThreadPoolExecutor,
) -> bool:
    """One request and its answer; whether the connection stays."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, version = head[0].split(" ", 2)
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    address = urlsplit(target)
    query: dict[str, str] = {}
    for name, value in parse_qsl(address.query, keep_blank_values=True):
        query.setdefault(name, value)
    request = Request(method, address.path, query, headers, body)
    answer = await asyncio.get_running_loop().run_in_executor(pool, handler, request)
    asked = headers.get("connection", "").lower()
    stays = asked != "close" if version == "HTTP/1.1" else asked == "keep-alive"
    writer.write(_answer(answer, stays))
    await writer.drain()
    return stays


def _answer(answer: Answer, stays: bool) -> bytes:
    body = b"" if answer.document is None else json.dumps(answer.document).encode()
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        *answer.headers,
        *(["Content-Type: application/json"] if body else []),
        f"Content-Length: {len(body)}",
        f"Connection: {'keep-alive' if stays else 'close'}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _part(piece: bytes) -> Part:
    head, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode().split("\r\n"))
    }
    said = {
        name.strip(): value.strip().strip('"')
        for name, _, value in (
            item.partition("=") for item in headers.get("content-disposition", "").split(";")[1:]
        )
    }
    return Part(said.get("name", ""), said.get("filename"), headers.get("content-type"), content)
