"""Request bodies: bounded reading, and the photograph of a JSON body."""

from __future__ import annotations

import asyncio
import binascii
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from compreface_engine.admission import ClientDisconnected
from compreface_engine.api.answers import Receive
from compreface_engine.api.errors import (
    BAD_JSON,
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    UnprocessableInput,
)

MAX_JSON_VALUES = 10_000
_TOO_MANY = f"The JSON body has more than {MAX_JSON_VALUES} values"

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


async def read_body(
    receive: Receive, hold: Callable[[int], Awaitable[None]], timeout_s: float
) -> bytes:
    """The whole body. `hold` is awaited with the size of each piece before the piece is kept.

    Raises BodyTooSlow where the pieces took longer than `timeout_s`, without the time in `hold`,
    ClientDisconnected, and what `hold` raises.
    """
    pieces: list[bytes] = []
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(timeout_s) as limit:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnected
                piece = message.get("body", b"")
                if piece:
                    left_s = (limit.when() or 0.0) - clock()
                    limit.reschedule(None)
                    await hold(len(piece))
                    limit.reschedule(clock() + left_s)
                    pieces.append(piece)
                if not message.get("more_body", False):
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    except TimeoutError as error:
        raise BodyTooSlow(timeout_s) from error


def media_type(content_type: bytes) -> str:
    """The media type without parameters, in lower case: `text/html` of `Text/HTML; charset=...`."""
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


def is_json(content_type: bytes) -> bool:
    """Whether it is `application/json` or `application/...+json`."""
    kind = media_type(content_type)
    return kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def read_json_file(body: bytes) -> bytes:
    """The photograph in `{"file": "<base64>"}`; characters outside the alphabet are skipped.

    Raises BadRequest where `body` is not JSON, UnprocessableInput where it has no base64 file and
    BodyTooLarge where it has more than MAX_JSON_VALUES values.
    """
    document = _json(body)
    if not isinstance(document, dict):
        raise UnprocessableInput('The body must be a JSON object with the key "file"')
    if "file" not in document:
        raise UnprocessableInput('The key "file" is missing in the JSON body')
    text = document["file"]
    if not isinstance(text, str):
        raise UnprocessableInput('The value of "file" must be a base64 string')
    if not text.isascii():
        raise UnprocessableInput('The value of "file" must be base64 in ASCII characters')
    try:
        return binascii.a2b_base64(text)
    except binascii.Error as error:
        raise UnprocessableInput(
            f'The value of "file" is not valid base64: {str(error)[:1].lower()}{str(error)[1:]}'
        ) from error


def _json(body: bytes) -> Any:
    # Millions of tiny values take many times the document's size in memory.
    many = _separators(body) > MAX_JSON_VALUES
    if many and (body.count(b'"') > 2 * MAX_JSON_VALUES or _values(body) > MAX_JSON_VALUES):
        raise BodyTooLarge(_TOO_MANY)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if many:  # Without a valid document, the ends of its strings are unknown.
            raise BodyTooLarge(_TOO_MANY) from None
        # Only Python's own reader accepts UTF-16, a byte order mark, NaN and lone surrogates.
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(BAD_JSON) from error


def _values(body: bytes) -> int:
    """The approximate number of values: the separators outside strings."""
    return _separators(_STRING.sub(b"", body))


def _separators(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")
