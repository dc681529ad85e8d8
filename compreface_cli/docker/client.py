"""Requests to the Docker engine, by its socket or through the `docker` program.

A request to a local socket takes 1 ms; a run of the program takes 10 ms and the import of the
Docker SDK 79 ms (measured on 2 cores). Over TLS and ssh, `docker system dial-stdio` connects, with
the keys and the rules of `docker` itself.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from compreface_cli.docker import endpoint
from compreface_cli.docker.endpoint import Endpoint
from compreface_cli.errors import DockerError

State: TypeAlias = Literal["no-socket", "denied", "refused", "timeout", "error"]

ANSWER_S = 30.0
_MAX_BYTES = 64 * 1024 * 1024
_PORT = 2375  # of tcp:// without a number
_versions: dict[str, str] = {}  # host -> path prefix with its API version


class NoAnswerError(DockerError):
    """The engine gave no answer, or an error with this HTTP `status`; `reason`: its cause."""

    def __init__(
        self, state: State, reason: str, host: str, *, status: int = 0, doing: str = ""
    ) -> None:
        self.state, self.reason, self.status = state, reason, status
        if status:
            message = reason
        elif state == "denied":
            message = f"permission denied while trying to connect to the Docker daemon at {host}"
        elif state == "timeout":
            message = f"{reason} from the Docker daemon at {host}"
        else:
            message = f"Cannot connect to the Docker daemon at {host}: {reason}"
        from compreface_cli import causes  # late: `cf list-builds` is quick

        cause = causes.of("docker", message)
        what = f"{cause.what}\n    {message}" if cause else message
        hint = cause.hint if cause else None
        about = cause.topic if cause else None
        super().__init__(f"{doing or 'query the Docker engine'}: {what}", hint=hint, topic=about)


def get(
    *path: str,
    doing: str = "",
    timeout_s: float = ANSWER_S,
    headers: Mapping[str, str] | None = None,
    **query: Any,
) -> Any:
    """The JSON document of a GET request, complete within `timeout_s`; raises NoAnswerError.

    `path`: its parts, unquoted. Values of `query` that are not strings are sent as JSON.
    """
    at, end = endpoint.current(), time.monotonic() + timeout_s
    try:
        status, _, body = _answer(at, _target(at, path, query, end), end, headers)
        document = json.loads(body)
    except (OSError, ValueError) as error:
        raise NoAnswerError(*_why(error, timeout_s), at.host, doing=doing) from error
    if status != 200:
        message = document.get("message") if isinstance(document, dict) else None
        why = str(message or f"HTTP status {status}")
        raise NoAnswerError("error", why, at.host, status=status, doing=doing)
    return document


@contextmanager
def events(
    *path: str, doing: str, headers: Mapping[str, str], quiet_s: float, **query: Any
) -> Iterator[Iterator[dict[str, Any]]]:
    """The JSON documents that the engine sends in answer to a POST request, as they arrive.

    Leaving the block ends the connection, and so what the engine does for it. Raises NoAnswerError,
    for `quiet_s` seconds without any byte too (state "timeout").
    """
    at = endpoint.current()
    try:
        target = _target(at, path, query, time.monotonic() + ANSWER_S)
        with _connected(at, time.monotonic() + quiet_s) as connection:
            connection.sendall(_request("POST", target, headers))
            lines = _lines(connection, quiet_s)
            head = list(iter(lambda: next(lines, b"").strip(), b""))
            status = re.match(rb"HTTP/1\.[01] (\d{3})", head[0] if head else b"")
            if status is None:
                raise ValueError(f"it begins with {(head or [b''])[0][:20]!r}")
            documents = (json.loads(line) for line in lines if line.strip())
            if status[1] != b"200":
                answer: Any = next(documents, None)
                message = answer.get("message") if isinstance(answer, dict) else None
                why, code = str(message or f"HTTP status {int(status[1])}"), int(status[1])
                raise NoAnswerError("error", why, at.host, status=code, doing=doing)
            yield documents
    except (OSError, ValueError) as error:
        raise NoAnswerError(*_why(error, quiet_s), at.host, doing=doing) from error


def _lines(connection: socket.socket, quiet_s: float) -> Iterator[bytes]:
    """The lines of an answer, each of which comes within `quiet_s` of the piece before."""
    connection.settimeout(quiet_s)
    kept = bytearray()
    while piece := connection.recv(65536):
        kept += piece
        *whole, rest = kept.split(b"\n")
        kept = bytearray(rest)
        if len(kept) > _MAX_BYTES:
            raise ValueError("a line of it is too long")
        yield from map(bytes, whole)
    if kept:
        yield bytes(kept)


def find(*path: str, doing: str = "", timeout_s: float = ANSWER_S) -> Any:
    """The JSON document of a GET request; None if the engine answers 404."""
    if path[0] in ("volumes", "containers") and any("/" in name for name in path):
        return None  # no such thing has a slash in its name, and the engine answers no JSON
    try:
        return get(*path, doing=doing, timeout_s=timeout_s)
    except NoAnswerError as error:
        if error.status == 404:
            return None
        raise


def _why(error: OSError | ValueError, timeout_s: float) -> tuple[State, str]:
    match error:
        case FileNotFoundError():
            return "no-socket", "there is no such socket"
        case PermissionError():
            return "denied", "permission denied"
        case ConnectionRefusedError():
            return "refused", "nothing answers there"
        case TimeoutError():
            return "timeout", f"no answer within {timeout_s:g} s"
        case OSError():
            return "error", error.strerror or str(error)
    return "error", f"its answer is invalid: {error}"


def _target(at: Endpoint, path: tuple[str, ...], query: Mapping[str, Any], end: float) -> str:
    """The target of a request, in the version of the API that the engine at `at` has."""
    if at.host not in _versions:
        head = _answer(at, "/_ping", end)[1]
        version = re.search(r"^api-version: *([0-9.]+)", head, re.IGNORECASE | re.MULTILINE)
        _versions[at.host] = f"/v{version[1]}" if version else ""
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in query.items()}
    asked = f"?{urlencode(texts)}" if texts else ""
    return f"{_versions[at.host]}/{quote('/'.join(path), safe='/:@')}{asked}"


def _request(method: str, target: str, headers: Mapping[str, str] | None = None) -> bytes:
    """HTTP/1.0, so that the engine closes the connection at the end."""
    lines = [f"{method} {target} HTTP/1.0", "Host: docker"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _answer(
    at: Endpoint, target: str, end: float, headers: Mapping[str, str] | None = None
) -> tuple[int, str, bytes]:
    """Status, head and body."""
    with _connected(at, end) as connection:
        connection.sendall(_request("GET", target, headers))
        answer = bytearray()
        while piece := _within(connection, end).recv(65536):
            answer += piece
            if len(answer) > _MAX_BYTES:
                raise ValueError("it is too long")
        head, _, body = bytes(answer).partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        if status is None:
            raise ValueError(f"it begins with {head[:20]!r}")
    return int(status[1]), head.decode("latin-1"), body


@contextmanager
def _connected(at: Endpoint, end: float) -> Iterator[socket.socket]:
    if at.error:
        raise OSError(at.error)
    parts = urlsplit(at.host)
    if at.tls or parts.scheme not in ("unix", "tcp"):
        with _through_program(end) as connection:
            yield connection
    elif parts.scheme == "tcp":
        left = max(end - time.monotonic(), 0.001)
        with socket.create_connection((parts.hostname, parts.port or _PORT), left) as connection:
            yield connection
    else:
        with socket.socket(socket.AF_UNIX) as connection:
            _within(connection, end).connect(parts.path)
            yield connection


@contextmanager
def _through_program(end: float) -> Iterator[socket.socket]:
    """A socket that `docker system dial-stdio` connects; it and its ssh end with the block."""
    import subprocess
    import tempfile

    parent, remote = socket.socketpair()
    with parent, tempfile.TemporaryFile() as errors:
        with remote:
            try:
                child = subprocess.Popen(
                    ["docker", "system", "dial-stdio"],
                    stdin=remote.fileno(),
                    stdout=remote.fileno(),
                    stderr=errors.fileno(),
                    start_new_session=True,  # no terminal on which ssh would ask for a password
                )
            except OSError:
                raise OSError("it needs the program `docker`, which is not installed") from None
        try:
            yield _within(parent, end)
        except (ValueError, ConnectionError):  # it ended; its stderr has the reason
            errors.seek(0)
            text = errors.read().decode(errors="replace").strip()
            if text:
                raise OSError(text.splitlines()[-1]) from None
            raise
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _within(connection: socket.socket, end: float) -> socket.socket:
    """The connection, with its timeout set to what is left until `end`."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
    return connection
