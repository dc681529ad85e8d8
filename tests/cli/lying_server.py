"""A local HTTP server that gives one file, and lies about it as it is told, request by request."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """How one request is answered; the defaults are an honest server's."""

    body: bytes
    status: int | None = None  # None: 200, or 206 for a range
    etag: str | None = '"one"'
    content_type: str = "application/octet-stream"
    ranges: bool = True
    checks_if_range: bool = True
    cut_after: int | None = None  # bytes of this answer's body, then the connection is cut
    stall_after: int | None = None  # bytes, then silence until the server is stopped
    declared: int | None = None  # Content-Length, if not the true one
    drip_s: float | None = None  # seconds between single bytes
    framing: str = "length"  # length | chunked | close
    location: str | None = None
    extra: tuple[tuple[str, str], ...] = ()


@dataclass
class LyingServer:
    url: str
    script: list[Answer]  # the last one is repeated
    requests: list[dict[str, str]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def next_answer(self, headers: dict[str, str]) -> Answer:
        self.requests.append(headers)
        return self.script[min(len(self.requests), len(self.script)) - 1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    liar: LyingServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        liar = self.server.liar
        asked = {name.lower(): value for name, value in self.headers.items()}
        answer = liar.next_answer({"path": self.path, **asked})
        self.close_connection = True
        try:
            self._answer(answer, asked, liar)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def _answer(self, answer: Answer, asked: dict[str, str], liar: LyingServer) -> None:
        body, status, start = answer.body, answer.status or 200, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", asked.get("range", ""))
        fresh = not answer.checks_if_range or asked.get("if-range") in (None, answer.etag)
        if wanted and answer.ranges and fresh and answer.status is None:
            start = int(wanted[1])
            status = 206 if start < len(body) else 416
            body = body[start:] if status == 206 else b""
        self.send_response(status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Connection", "close")  # else the next request may meet the closing one
        if answer.etag:
            self.send_header("ETag", answer.etag)
        if answer.location:
            self.send_header("Location", answer.location)
        if status == 206:
            last = len(answer.body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(answer.body)}")
        for name, value in answer.extra:
            self.send_header(name, value)
        if answer.framing == "length":
            length = len(body) if answer.declared is None else answer.declared
            self.send_header("Content-Length", str(length))
        elif answer.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._send(answer, body, liar)

    def _send(self, answer: Answer, body: bytes, liar: LyingServer) -> None:
        if answer.drip_s is not None:
            for byte in body:
                self.wfile.write(bytes([byte]))
                if liar.stopped.wait(answer.drip_s):
                    return
        elif answer.stall_after is not None:
            self.wfile.write(body[: answer.stall_after])
            self.wfile.flush()
            liar.stopped.wait()
        elif answer.cut_after is not None:
            self.wfile.write(body[: answer.cut_after])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
        elif answer.framing == "chunked":
            self.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        else:
            self.wfile.write(body)


@contextmanager
def lying_server(script: Sequence[Answer]) -> Iterator[LyingServer]:
    server = _Server(("127.0.0.1", 0), _Handler)
    server.liar = LyingServer(f"http://127.0.0.1:{server.server_address[1]}", list(script))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.liar
    finally:
        server.liar.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
