"""The recorded requests of the real api and nginx, rebuilt to the byte, and a bare connection."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.contract.pictures import RECORDINGS, is_here, picture

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Recorded:
    """A request as it was sent, with what our engine answered then."""

    number: int
    request: str
    headers: tuple[str, ...]
    parts: tuple[Mapping[str, Any], ...]
    status: str
    answer: Mapping[str, Any]

    @property
    def name(self) -> str:
        what = ",".join(f"{part['content'][:20]}" for part in self.parts)
        return f"{self.number}-{self.request.split()[1].strip('/')}-{what}".rstrip("-")

    @property
    def can_be_sent(self) -> bool:
        """Whether its photograph is here."""
        named = [part["content"] for part in self.parts]
        return all(is_here(f"photographs/{part}") for part in named if part.endswith(".jpg"))

    @property
    def keeps_its_connection(self) -> bool:
        return "Connection: close" not in self.headers

    def field(self, name: str) -> str | None:
        """A text field of the form; None if it was left out."""
        for part in self.parts:
            if f'name="{name}"' in part["headers"][0]:
                content: str = part["content"]
                return content
        return None

    @property
    def boundary(self) -> str:
        return self.headers[0].partition("boundary=")[2]

    def body(self) -> bytes:
        return form_of(self.parts, self.boundary) if self.parts else b""

    def bytes(self) -> bytes:
        return head_of(self.request, self.headers) + self.body()


@cache
def recording() -> tuple[Recorded, ...]:
    """All requests in their order."""
    text = (RECORDINGS / "api-to-core.jsonl").read_text("utf-8")
    return tuple(
        Recorded(
            number,
            record["request"],
            tuple(record["headers"]),
            tuple(record["parts"] or ()),
            record["status"],
            record["answer"],
        )
        for number, record in enumerate(json.loads(line) for line in text.splitlines())
    )


def head_of(request: str, headers: Sequence[str]) -> bytes:
    """The request line and the headers, in their order."""
    return "\r\n".join([request, *headers, "", ""]).encode()


def form_of(parts: Sequence[Mapping[str, Any]], boundary: str) -> bytes:
    """A multipart body of recorded parts."""
    mark = f"--{boundary}"
    pieces = (
        "\r\n".join([mark, *part["headers"], "", ""]).encode() + content_of(part) for part in parts
    )
    return b"\r\n".join([*pieces, f"{mark}--\r\n".encode()])


def content_of(part: Mapping[str, Any]) -> bytes:
    """The bytes of a recorded part: a sample, the beginning of one by its hash, or a text."""
    named: str = part["content"]
    if named.endswith(".jpg"):
        content = picture(f"photographs/{named}")
    elif named.startswith("sha256:"):
        content = _beginning(named.removeprefix("sha256:"), part["bytes"])
    else:
        content = named.encode()
    assert len(content) == part["bytes"], named
    return content


def _beginning(digest: str, length: int) -> bytes:
    start = picture("inputs/001_A-beginning.jpg")
    assert (len(start), hashlib.sha256(start).hexdigest()) == (length, digest)
    return start


@dataclass(frozen=True)
class Answered:
    """An answer as it came from the wire."""

    status: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One TCP connection that sends exactly the given bytes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self._answers = self._socket.makefile("rb")

    def ask(self, request: bytes) -> Answered:
        """Send the bytes and read one answer, whose body has a stated length."""
        self._socket.sendall(request)
        status = self._line()
        headers = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self._answers.read(int(headers["content-length"]))
        assert len(body) == int(headers["content-length"]), "the answer is cut short"
        return Answered(status, headers, body)

    def is_at_its_end(self) -> bool:
        """Whether the other side has closed it without sending more."""
        return self._answers.read(1) == b""

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def _line(self) -> str:
        line = self._answers.readline()
        assert line.endswith(b"\r\n"), f"the connection ended: {line!r}"
        return line[:-2].decode("latin-1")
