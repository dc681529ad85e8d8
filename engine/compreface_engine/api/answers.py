"""HTTP answers: JSON with exactly the original's bytes, and their headers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import orjson

from compreface_engine.api.errors import MethodNotAllowed, RequestError, RetryLater, Unauthorized
from compreface_engine.core.errors import NoFaceFound

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Header: TypeAlias = tuple[bytes, bytes]

JSON_TYPE = b"application/json"
CACHE_CONTROL: Header = (
    b"cache-control",
    b"max-age=0, no-cache, no-store, must-revalidate, proxy-revalidate",
)
TRUNCATED: Header = (b"x-image-truncated", b"true")
CLOSE: Header = (b"connection", b"close")

_JSON_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: status, body and headers."""

    status: int
    body: bytes = b""
    content_type: bytes = JSON_TYPE
    headers: tuple[Header, ...] = ()

    def start(self, request_id: bytes, *, close: bool = False) -> Message:
        """The first ASGI message: status, the original's headers in its order, then new ones."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            CACHE_CONTROL,
            *self.headers,
            (b"x-request-id", request_id),
        ]
        if close:
            headers.append(CLOSE)
        return {"type": "http.response.start", "status": self.status, "headers": headers}


def to_json(value: Any) -> bytes:
    """`value` as the original prints it: sorted keys, no blanks, ASCII, Python's floats, one LF.

    float32 arrays are widened to float64, so their values have up to 17 digits. Keys must be
    printable ASCII.
    """
    return orjson.dumps(_prepared(value), option=_JSON_OPTIONS)


def _prepared(value: Any) -> Any:
    """`value` with everything that orjson would print differently replaced by its bytes."""
    if isinstance(value, dict):
        return {key: _prepared(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_prepared(item) for item in value]
    if isinstance(value, np.ndarray):
        is_vector = value.ndim == 1 and value.dtype.kind == "f"
        return _numbers(value) if is_vector else _prepared(value.tolist())
    if isinstance(value, float):
        return orjson.Fragment(float.__repr__(value).encode())
    if isinstance(value, str) and not (value.isascii() and value.isprintable()):
        return orjson.Fragment(json.dumps(value).encode())
    return value


def _numbers(values: np.ndarray[Any, Any]) -> Any:
    """A vector of floats, printed at once but for the few that Python prints with an exponent."""
    wide = np.ascontiguousarray(values, dtype=np.float64)
    text = orjson.dumps(wide, option=orjson.OPT_SERIALIZE_NUMPY)
    size = np.abs(wide)
    exponential = ((size < 1e-4) & (size > 0)) | ((size >= 1e16) & np.isfinite(size))
    if exponential.any():
        printed = text[1:-1].split(b",")
        for index in np.flatnonzero(exponential).tolist():
            printed[index] = repr(float(wide[index])).encode()
        text = b"[" + b",".join(printed) + b"]"
    return orjson.Fragment(text)


def json_answer(value: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Answer:
    """An answer whose body is `value`; see `to_json`."""
    return Answer(status, to_json(value), headers=headers)


def error_answer(error: RequestError) -> Answer:
    """`{"message": ...}` with the error's status and headers, `Retry-After` among them.

    "No face" for a truncated picture has the header TRUNCATED: the missing part may have had one.
    """
    headers: tuple[Header, ...] = ()
    if isinstance(error, RetryLater):
        if error.retry_after is not None:
            headers = ((b"retry-after", b"%d" % error.retry_after),)
    elif isinstance(error, Unauthorized):
        headers = ((b"www-authenticate", b"Bearer"),)
    elif isinstance(error, MethodNotAllowed):
        headers = ((b"allow", error.allow),)
    elif isinstance(error, NoFaceFound) and error.truncated:
        headers = (TRUNCATED,)
    return json_answer({"message": str(error)}, error.status, headers)
