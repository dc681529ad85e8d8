"""A Docker daemon of a few lines on a Unix socket: it answers two questions, or misbehaves."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answer = Callable[[str], bytes]


def http(document: Any, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n".encode() + (
        document if isinstance(document, bytes) else json.dumps(document).encode()
    )


@contextmanager
def daemon(path: Path, answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Its address, and the targets it was asked for; an empty answer leaves the caller waiting."""
    asked: list[str] = []
    held: list[socket.socket] = []
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            target = connection.recv(65536).split(b" ")[1].decode()
            asked.append(target)
            reply = answer(target)
            if reply:
                connection.sendall(reply)
                connection.close()
            else:
                held.append(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"unix://{path}", asked
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for connection in held:
            connection.close()
        thread.join(5)
