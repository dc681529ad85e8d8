"""How the api asks the engine: Feign on the JVM's own HTTP connections.

It is held to the recorded requests and to what was seen of the real api: nothing is tried again
unless MAX_ATTEMPTS says so, and then without any pause; a resolved name is kept for 30 s; five
idle connections are kept for 5 s. The rest is what the JVM and Feign 11.8 document and do.
"""

from __future__ import annotations

import http.client
import json
import mimetypes
import os
import re
import select
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

USER_AGENT = "Java/17.0.15"
FIND_FACES = "findFaces(MultipartFile,Integer,Double,String,Boolean)"
SHOWN_BYTES, SHOWN_CHARACTERS = 400, 200  # of an error's body in Feign's message


class NoFace(Exception):
    """The engine answered 400, which the api takes for a picture without a face."""


class EngineFailed(Exception):
    """Any other failure, with Feign's message."""


class Photograph(NamedTuple):
    """The picture as its sender named it."""

    filename: str
    content_type: str | None
    content: bytes


@dataclass
class Names:
    """The JVM's memory of names: seconds for found and unknown ones, -1 for good."""

    ttl_s: float = 30.0
    negative_ttl_s: float = 10.0
    _known: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def address(self, host: str) -> str:
        """The first address of the name: the JVM tries no other."""
        with self._lock:
            known = self._known.get(host)
            if known is None or known[0] <= time.monotonic():
                known = self._known[host] = self._asked(host)
        if known[1] is None:
            raise socket.gaierror(host)
        return known[1]

    def _asked(self, host: str) -> tuple[float, str | None]:
        try:
            found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
            address, ttl_s = str(found[0][4][0]), self.ttl_s
        except socket.gaierror:
            address, ttl_s = None, self.negative_ttl_s
        return (time.monotonic() + ttl_s if ttl_s >= 0 else float("inf")), address


@dataclass
class Idle:
    """Connections that wait for their next request; the last one that came goes first."""

    most: int = 5
    longest_s: float = 5.0
    _kept: list[tuple[float, socket.socket]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self) -> socket.socket | None:
        with self._lock:
            while self._kept:
                since, connection = self._kept.pop()
                if time.monotonic() - since <= self.longest_s:
                    return connection
                connection.close()
        return None

    def give(self, connection: socket.socket) -> None:
        with self._lock:
            if len(self._kept) < self.most:
                self._kept.append((time.monotonic(), connection))
            else:
                connection.close()

    def sweep(self) -> None:
        """Close what has waited too long; the JVM does so every 5 s."""
        with self._lock:
            old = [one for one in self._kept if time.monotonic() - one[0] > self.longest_s]
            self._kept = [one for one in self._kept if one not in old]
        for _, connection in old:
            connection.close()


class _CutShort(Exception):
    """The answer began and did not end: Feign does not try that again."""


class _Reply(NamedTuple):
    status: int
    reason: str
    retry_after: str | None
    body: bytes


class EngineClient:
    """Asks one engine. `java_options` are the JVM's, as they stand in API_JAVA_OPTS."""

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 60.0,
        max_attempts: int = 1,
        java_options: str = "",
    ) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._url = url
        self._host, self._port = address.hostname, address.port or 80
        self._netloc = address.netloc
        self._connect_timeout_s, self._read_timeout_s = connect_timeout_s, read_timeout_s
        self._max_attempts = max_attempts
        said = dict(re.findall(r"-D([\w.]+)=(\S*)", java_options))
        # No option of this kind shortens the 10 s for an unknown name: java.security says them.
        self._names = Names(float(said.get("sun.net.inetaddr.ttl", 30)))
        self._idle = Idle(int(said.get("http.maxConnections", 5)))
        threading.Thread(target=self._sweep, daemon=True).start()

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] = os.environ) -> EngineClient:
        """As the api's own variables say; times are in milliseconds there."""
        return cls(
            variables.get("PYTHON_URL", "http://compreface-core:3000"),
            connect_timeout_s=int(variables.get("CONNECTION_TIMEOUT", 10000)) / 1000,
            read_timeout_s=int(variables.get("READ_TIMEOUT", 60000)) / 1000,
            max_attempts=int(variables.get("MAX_ATTEMPTS", 1)),
            java_options=variables.get("API_JAVA_OPTS", ""),
        )

    def status(self) -> dict[str, Any]:
        """GET /status; raises NoFace or EngineFailed."""
        document: dict[str, Any] = self._document("GET", "/status", "getStatus()", None)
        return document

    def find_faces(
        self,
        photograph: Photograph,
        *,
        limit: int,
        det_prob_threshold: float | None,
        face_plugins: str | None,
        detect_faces: bool,
    ) -> dict[str, Any]:
        """POST /find_faces; None leaves a part out. Raises NoFace or EngineFailed."""
        fields = {
            "limit": str(limit),
            "det_prob_threshold": None if det_prob_threshold is None else repr(det_prob_threshold),
            "face_plugins": face_plugins,
            "detect_faces": "true" if detect_faces else "false",
        }
        form = multipart(photograph, fields, boundary=f"{int(time.time() * 1000):x}")
        document: dict[str, Any] = self._document("POST", "/find_faces", FIND_FACES, form)
        return document

    def _document(self, method: str, path: str, call: str, form: tuple[str, bytes] | None) -> Any:
        kind, body = form or ("multipart/form-data", b"")
        request = head(method, path, kind, self._netloc, len(body) if form else None) + body
        attempt = 1
        while True:
            try:
                reply = self._exchange(request, again=form is None)
            except _CutShort as failed:
                raise EngineFailed(f"{failed} reading {method} {self._url}{path}") from failed
            except (OSError, http.client.HTTPException) as failed:
                said = f"{_as_java_says(failed, self._host)} executing {method} {self._url}{path}"
                again = True
            else:
                if 200 <= reply.status < 300:
                    return self._read(reply, f"reading {method} {self._url}{path}")
                said = (
                    f"[{reply.status} {reply.reason}] during [{method}] to [{self._url}{path}] "
                    f"[FacesFeignClient#{call}]: [{_shown(reply.body)}]"
                )
                again = _is_time(reply.retry_after)
                if reply.status == 400 and not again:
                    raise NoFace
            if not again or attempt >= self._max_attempts:
                raise EngineFailed(said)
            attempt += 1

    @staticmethod
    def _read(reply: _Reply, what: str) -> Any:
        if not reply.body:
            return None
        try:
            return json.loads(reply.body)
        except ValueError as failed:
            raise EngineFailed(f"{failed} {what}") from failed

    def _exchange(self, request: bytes, *, again: bool) -> _Reply:
        """One request on a kept or a new connection.

        With `again` the JVM itself sends it once more if the connection breaks: it does so for
        what has no body, and not for a form, whose length it was given.
        """
        connection = self._idle.take()
        if connection is not None and not again and _ended(connection):
            connection.close()
            connection = None
        if connection is None:
            connection = self._opened()
        try:
            return self._answered(connection, request)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            if not again:
                raise
            return self._answered(self._opened(), request)

    def _opened(self) -> socket.socket:
        address = self._names.address(self._host)
        try:
            connection = socket.create_connection((address, self._port), self._connect_timeout_s)
        except TimeoutError as late:
            raise TimeoutError("Connect timed out") from late
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _answered(self, connection: socket.socket, request: bytes) -> _Reply:
        try:
            connection.settimeout(None)  # the JVM knows no limit for writing
            with suppress(OSError):  # nor its failure: an early answer is read all the same
                connection.sendall(request)
            connection.settimeout(self._read_timeout_s)
            with http.client.HTTPResponse(connection) as response:
                response.begin()
                try:
                    body = response.read()
                except (OSError, http.client.HTTPException) as failed:
                    raise _CutShort(_as_java_says(failed, self._host)) from failed
                retry_after = response.getheader("Retry-After")
                reply = _Reply(response.status, response.reason, retry_after, body)
                stays = not response.will_close
        except BaseException:
            connection.close()
            raise
        if stays:
            self._idle.give(connection)
        else:
            connection.close()
        return reply

    def _sweep(self) -> None:
        while True:
            time.sleep(self._idle.longest_s)
            self._idle.sweep()


def head(method: str, path: str, content_type: str, host: str, length: int | None) -> bytes:
    """The request line and headers in the recorded order."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Content-Type: {content_type}",
        "Accept: */*",
        f"User-Agent: {USER_AGENT}",
        f"Host: {host}",
        "Connection: keep-alive",
        *([] if length is None else [f"Content-Length: {length}"]),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def multipart(
    photograph: Photograph, fields: Mapping[str, str | None], boundary: str
) -> tuple[str, bytes]:
    """Content type and body of a form as recorded: the file first, then the fields that are set."""
    kind = photograph.content_type or mimetypes.guess_type(photograph.filename)[0]
    parts = [
        (
            f'Content-Disposition: form-data; name="file"; filename="{photograph.filename}"\r\n'
            f"Content-Type: {kind or 'application/octet-stream'}\r\n"
            "Content-Transfer-Encoding: binary",
            photograph.content,
        )
    ]
    parts += [
        (
            f'Content-Disposition: form-data; name="{name}"\r\n'
            "Content-Type: text/plain; charset=UTF-8",
            value.encode(),
        )
        for name, value in fields.items()
        if value is not None
    ]
    body = b"".join(
        f"--{boundary}\r\n{lines}\r\n\r\n".encode() + content + b"\r\n" for lines, content in parts
    )
    return (
        f"multipart/form-data; charset=UTF-8; boundary={boundary}",
        body + f"--{boundary}--\r\n".encode(),
    )


def _ended(connection: socket.socket) -> bool:
    """Whether the other side has closed it; the JVM looks for 1 ms before it sends a form."""
    if not select.select([connection], [], [], 0.001)[0]:
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        return True


def _is_time(retry_after: str | None) -> bool:
    if retry_after is None:
        return False
    if re.fullmatch(r"[0-9]+\.?0*", retry_after):
        return True
    try:
        parsedate_to_datetime(retry_after)
    except ValueError:
        return False
    return True


def _as_java_says(failed: Exception, host: str) -> str:
    match failed:
        case socket.gaierror():
            return host
        case TimeoutError():
            return "Connect timed out" if "Connect" in str(failed) else "Read timed out"
        case ConnectionRefusedError():
            return "Connection refused"
        case http.client.RemoteDisconnected() | http.client.IncompleteRead():
            return "Unexpected end of file from server"
        case http.client.BadStatusLine():
            return "Invalid status(-1)"
        case ConnectionResetError():
            return "Connection reset"
        case OSError(strerror=str(reason)):
            return reason
        case _:
            return str(failed)


def _shown(body: bytes) -> str:
    text = body.decode(errors="replace")
    if len(body) < SHOWN_BYTES:
        return text
    return f"{text[:SHOWN_CHARACTERS]}... ({len(body)} bytes)"
