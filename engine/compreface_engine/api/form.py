"""Multipart forms, parsed as Werkzeug 1.0.1 (the original's version) does."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from compreface_engine.api.errors import NO_FILE, NO_FILE_NAME, BadRequest, BodyTooLarge

PARAMETERS: Final = ("limit", "det_prob_threshold", "face_plugins", "detect_faces")
"""The text fields that are read; other fields are ignored, whatever their size."""
MAX_PARTS: Final = 100
MAX_FIELD_BYTES: Final = 64 * 1024
MAX_HEADS_BYTES: Final = 256 * 1024
"""The most bytes of the headers of all parts together."""
MAX_LOOKALIKES: Final = 10_000
"""The most places in one part that look like a boundary; a photograph has hardly any."""
MAX_PADDINGS: Final = 1000
"""The most padded pieces of a part in base64; one, at the end, is usual."""

_BLANKS: Final = re.compile(rb"\s*+")
_LINE: Final = re.compile(rb"([^\r\n]*+)(\r\n|\r|\n|\Z)")
_REST_OF_MARK: Final = re.compile(rb"(--)?+[ \t\v\f]*+(?:\r\n|\r|\n|\Z)")
_OPTION: Final = re.compile(
    rb"""
    ;[\s,]*+ ([^\s;,=*"]++) (\*(?:[0-9]++\*?)?+)?+ \s*+     # its name; stars are RFC 2231's
    (?: = \s*+ ( "(?:[^"\\]++|\\.)*+" | [^;]++ )? )?          # its value, quoted or not
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(rb'\\(["\\])')
_UP_TO_PADDING: Final = re.compile(rb"[^=]++=*+")


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: its first file part named `file`, and the first value of each parameter."""

    file: bytes | memoryview
    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of a form; `file_name` is None for a text field."""

    name: bytes
    file_name: bytes | None
    encoding: bytes
    data: memoryview

    def content(self) -> bytes | memoryview:
        """The decoded content. Raises BadRequest where its transfer encoding is damaged."""
        decode = _DECODERS.get(self.encoding)
        try:
            return self.data if decode is None else decode(self.data)
        except ValueError as error:
            raise BadRequest(NO_FILE) from error


def boundary_of(content_type: bytes) -> bytes:
    """The boundary of a multipart form. Raises BadRequest NO_FILE for any other body."""
    kind, options = _kind_and_options(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise BadRequest(NO_FILE)
    return boundary


def read_form(body: bytes, boundary: bytes) -> Form:
    """The photograph and the parameters of a multipart body.

    Raises BadRequest NO_FILE where there is no file (as in the original, a damaged or unfinished
    form has none), BadRequest NO_FILE_NAME where its name is empty, and BodyTooLarge above a limit.
    """
    file: _Part | None = None
    fields: dict[str, str] = {}
    for part in _parts(body, boundary):
        name = part.name.decode("utf-8", "replace")
        if part.file_name is not None:
            if name == "file" and file is None:
                file = part
        elif name in PARAMETERS and name not in fields:
            if len(part.data) > MAX_FIELD_BYTES:
                raise BodyTooLarge(f"The form field {name} has more than {MAX_FIELD_BYTES} bytes")
            fields[name] = bytes(part.content()).decode("utf-8", "replace")
    if file is None:
        raise BadRequest(NO_FILE)
    if not file.file_name:
        raise BadRequest(NO_FILE_NAME)
    return Form(file.content(), fields)


def _parts(body: bytes, boundary: bytes) -> Iterator[_Part]:
    """The parts, with lines that end in CRLF, LF or CR. Raises BadRequest for a damaged form.

    Only blanks may precede the first part; everything after the last is ignored.
    """
    mark = b"--" + boundary
    blanks = _BLANKS.match(body)
    at = blanks.end() if blanks else 0
    rest = _REST_OF_MARK.match(body, at + len(mark)) if body.startswith(mark, at) else None
    count, room = 0, MAX_HEADS_BYTES
    while rest is not None and rest[1] is None:
        count += 1
        if count > MAX_PARTS:
            raise BodyTooLarge(f"The form has more than {MAX_PARTS} parts")
        head, start = _part_head(body, rest.end(), room)
        room -= start - rest.end()
        disposition = head.get(b"content-disposition")
        if disposition is None:
            break
        _, options = _kind_and_options(disposition)
        end, rest = _next_mark(body, mark, start)
        if rest is None:
            break
        yield _Part(
            options.get(b"name", b""),
            options.get(b"filename"),
            head.get(b"content-transfer-encoding", b"").lower(),
            memoryview(body)[start:end],
        )
    if rest is None or rest[1] is None:
        raise BadRequest(NO_FILE)


def _part_head(body: bytes, at: int, room: int) -> tuple[dict[bytes, bytes], int]:
    """The headers from `at` on (names in lower case, the first of each), and where they end.

    Raises BodyTooLarge where they take more than `room` bytes.
    """
    headers: list[tuple[bytes, list[bytes]]] = []
    for line in _LINE.finditer(body, at, at + room):
        text, ending = line.groups()
        if not ending:
            break
        if not text:
            values: dict[bytes, bytes] = {}
            for name, pieces in headers:
                values.setdefault(name, b" ".join(pieces).strip())
            return values, line.end()
        if text[:1] in b" \t" and headers:
            headers[-1][1].append(text)
            continue
        name, colon, value = text.partition(b":")
        if colon:
            headers.append((name.strip().lower(), [value]))
    if len(body) - at > room:
        raise BodyTooLarge(f"The form's part headers have more than {MAX_HEADS_BYTES} bytes")
    raise BadRequest(NO_FILE)


def _next_mark(body: bytes, mark: bytes, start: int) -> tuple[int, re.Match[bytes] | None]:
    """The end of the data that begins at `start`, and the rest of the boundary line or None."""
    at = start - 1
    for _ in range(MAX_LOOKALIKES):
        at = body.find(mark, at + 1)
        if at < 0:
            break
        if at == start or body[at - 1] in b"\r\n":
            rest = _REST_OF_MARK.match(body, at + len(mark))
            if rest is not None:
                ending = 2 if body[max(start, at - 2) : at] == b"\r\n" else 1
                return max(start, at - ending), rest
    return start, None


def _kind_and_options(value: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """`form-data` and `{name: file}` of `form-data; name="file"`; the last of repeated names."""
    options: dict[bytes, bytes] = {}
    for name, stars, text in _OPTION.findall(value):
        text = text.strip()
        if stars.endswith(b"*"):
            text = unquote_to_bytes(text.split(b"'", 2)[-1])
        if not text:
            continue
        if text[:1] == text[-1:] == b'"' and len(text) > 1:
            text = _ESCAPED.sub(rb"\1", text[1:-1])
        key = name.lower()
        options[key] = options.get(key, b"") + text if len(stars) > 1 else text
    return value.partition(b";")[0].strip().lower(), options


def _from_base64(data: memoryview) -> bytes:
    """Decodes base64, also where single lines are padded. Raises ValueError."""
    pieces: list[bytes] = []
    for piece in _UP_TO_PADDING.finditer(data):
        if len(pieces) == MAX_PADDINGS:
            raise ValueError("too many padded pieces of base64")
        pieces.append(binascii.a2b_base64(data[piece.start() : piece.end()]))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


_DECODERS: Final[Mapping[bytes, Callable[[memoryview], bytes]]] = {
    b"base64": _from_base64,
    b"quoted-printable": binascii.a2b_qp,
}
