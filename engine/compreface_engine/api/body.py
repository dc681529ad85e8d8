"""Bodies: read within bounds, then the photograph taken out of a form or a JSON document."""

from __future__ import annotations

import asyncio
import binascii
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from compreface_engine.api.answers import Receive
from compreface_engine.api.errors import (
    BAD_JSON,
    NO_FILE,
    NO_FILE_NAME,
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    UnprocessableInput,
)

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 100
MAX_FIELD_BYTES = 64 * 1024
MAX_HEADERS_PER_PART = 16
MAX_HEADER_BYTES = 8 * 1024
MAX_JSON_VALUES = 10_000

_ENCODED_NAME = re.compile(rb";\s*filename\*[0-9*]*\s*=\s*[^;\s]", re.IGNORECASE)


class Disconnected(Exception):
    """The caller hung up before its body was complete."""


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: its first file part `file`, and its text fields (first value each)."""

    file: memoryview
    fields: dict[str, str]


async def read_body(
    receive: Receive, hold: Callable[[int], Awaitable[None]], timeout_s: float
) -> bytes:
    """The whole body. `hold` gets the size of each piece before it is kept, and may make it wait.

    Raises BodyTooSlow when the pieces took longer than `timeout_s`, the waits of `hold` aside,
    Disconnected, and what `hold` raises.
    """
    pieces: list[bytes] = []
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(timeout_s) as limit:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
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
    """`text/html` out of `Text/HTML; charset=...`."""
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


def is_json(content_type: bytes) -> bool:
    kind = media_type(content_type)
    return kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def boundary_of(content_type: bytes) -> bytes:
    """The boundary of a multipart form; BadRequest "No file is attached" for any other body."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise BadRequest(NO_FILE)
    return boundary


class _FormReader:
    """Collects parts from the parser's callbacks; spans suffice, since the body is one piece."""

    def __init__(self) -> None:
        self.file: tuple[int, int] | None = None
        self.file_name = b""
        self.fields: dict[str, str] = {}
        self.ended = False
        self._parts = 0
        self._header = b""
        self._disposition: bytes | None = None
        self._options: dict[bytes, bytes] = {}
        self._span: tuple[int, int] | None = None
        self._value = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self.part_begin,
            "on_header_field": self.header_field,
            "on_header_value": self.header_value,
            "on_headers_finished": self.headers_finished,
            "on_part_data": self.part_data,
            "on_part_end": self.part_end,
            "on_end": self.end,
        }

    def part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BodyTooLarge(f"The form has more than {MAX_PARTS} parts")
        self._disposition = None
        self._options = {}
        self._span = None

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = data[start:end].lower()

    def header_value(self, data: bytes, start: int, end: int) -> None:
        if self._header == b"content-disposition":
            self._disposition = data[start:end]

    def headers_finished(self) -> None:
        if self._disposition is None:
            raise FormParserError("a part without a content-disposition")
        _, self._options = parse_options_header(self._disposition)
        # The parser drops RFC 2231 names, which some clients send for names beyond ASCII.
        if b"filename" not in self._options and _ENCODED_NAME.search(self._disposition):
            self._options[b"filename"] = b"encoded"

    def part_data(self, data: bytes, start: int, end: int) -> None:
        first = start if self._span is None else self._span[0]
        self._span = (first, end)
        self._value = data

    def part_end(self) -> None:
        start, end = self._span or (0, 0)
        name = self._options.get(b"name")
        file_name = self._options.get(b"filename")
        if file_name is not None:
            if name == b"file" and self.file is None:
                self.file = (start, end)
                self.file_name = file_name
        elif name is not None:
            if end - start > MAX_FIELD_BYTES:
                raise BodyTooLarge(f"A form field has more than {MAX_FIELD_BYTES} bytes")
            text = self._value[start:end].decode("utf-8", "replace") if end > start else ""
            self.fields.setdefault(name.decode("utf-8", "replace"), text)

    def end(self) -> None:
        self.ended = True


def read_form(body: bytes, boundary: bytes) -> Form:
    """The photograph and the fields of a multipart body.

    Raises BadRequest with the contract's texts when there is no file (as in the original, a damaged
    or unfinished form has none) or its name is empty; BodyTooLarge for too many parts or too long
    fields.
    """
    reader = _FormReader()
    try:
        parser = MultipartParser(
            boundary,
            reader.callbacks(),
            max_header_count=MAX_HEADERS_PER_PART,
            max_header_size=MAX_HEADER_BYTES,
        )
        parser.write(body)
    except FormParserError as error:
        raise BadRequest(NO_FILE) from error
    if not reader.ended or reader.file is None:
        raise BadRequest(NO_FILE)
    if not reader.file_name:
        raise BadRequest(NO_FILE_NAME)
    start, end = reader.file
    return Form(memoryview(body)[start:end], reader.fields)


def read_json_file(body: bytes) -> bytes:
    """The photograph out of `{"file": "<base64>"}`; characters outside the alphabet are skipped.

    Raises BadRequest for what is no JSON and UnprocessableInput for JSON that holds no base64 file.
    """
    document = _json(body)
    if not isinstance(document, dict):
        raise UnprocessableInput('The body must be a JSON object with the key "file"')
    if "file" not in document:
        raise UnprocessableInput('The key "file" is missing in the JSON body')
    text = document["file"]
    if not isinstance(text, str):
        raise UnprocessableInput('The value of "file" must be a string of base64')
    if not text.isascii():
        raise UnprocessableInput('The value of "file" must be base64, which is plain ASCII')
    try:
        return binascii.a2b_base64(text)
    except binascii.Error as error:
        raise UnprocessableInput(
            f'The value of "file" is no valid base64: {str(error)[:1].lower()}{str(error)[1:]}'
        ) from error


def _json(body: bytes) -> Any:
    # A document of millions of tiny values would take many times its size in memory.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_JSON_VALUES:
        raise BodyTooLarge(f"The JSON body has more than {MAX_JSON_VALUES} values")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # What only Python's own reader takes: UTF-16, a byte order mark, NaN, lone surrogates.
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise BadRequest(BAD_JSON) from error
