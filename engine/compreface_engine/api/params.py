"""Request parameters; numbers have the grammar of Python's int() and float()."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping
from urllib.parse import parse_qsl

from compreface_engine.api.errors import (
    BAD_LIMIT,
    BAD_THRESHOLD,
    NEGATIVE_LIMIT,
    BadRequest,
    UnprocessableInput,
)

_SEPARATORS = re.compile(r"[,\s]+")
_WHOLE_NUMBER = re.compile(r"([+-]?)(\d++(?:_\d++)*+)")


def query_values(query: bytes) -> dict[str, str]:
    """The parameters of a query string; the first value of a repeated name counts."""
    if not query:
        return {}
    values: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        values.setdefault(name, value)
    return values


def merged(query: Mapping[str, str], form: Mapping[str, str]) -> dict[str, str]:
    """The parameters of both; the query's take precedence."""
    return {**form, **query}


def limit_of(values: Mapping[str, str]) -> int:
    """`limit`: the maximum number of faces, 0 for all. Raises BadRequest."""
    text = values.get("limit", "")
    if not text:
        return 0
    try:
        limit = int(text)
    except ValueError as error:
        limit = _huge_number(text, error)
    if limit < 0:
        raise BadRequest(NEGATIVE_LIMIT)
    return limit


def _huge_number(text: str, error: ValueError) -> int:
    """A number of over 4300 digits, which int() refuses; at most `sys.maxsize`."""
    number = _WHOLE_NUMBER.fullmatch(text.strip())
    if number is None:
        raise BadRequest(BAD_LIMIT) from error
    sign, digits = number.groups()
    plain = "".join(str(unicodedata.decimal(digit)) for digit in digits if digit != "_")
    plain = plain.lstrip("0")
    size = min(sys.maxsize, int(plain[:20] or "0"))
    return -size if sign == "-" else size


def threshold_of(values: Mapping[str, str]) -> float | None:
    """`det_prob_threshold`: the lowest probability of a face, 0..1; None where it is not given.

    Raises BadRequest and UnprocessableInput.
    """
    text = values.get("det_prob_threshold")
    if text is None:
        return None
    try:
        threshold = float(text)
    except ValueError as error:
        shown = repr(text if len(text) <= 40 else text[:40] + "...")
        raise UnprocessableInput(f"det_prob_threshold is not a number: {shown}") from error
    if not 0 <= threshold <= 1:
        raise BadRequest(BAD_THRESHOLD)
    return threshold


def slugs_of(values: Mapping[str, str]) -> frozenset[str]:
    """`face_plugins`: the slugs of the requested plugins; the pipeline ignores unknown ones."""
    text = values.get("face_plugins", "")
    return frozenset(_SEPARATORS.split(text)) - {""} if text else frozenset()


def detect_of(values: Mapping[str, str]) -> bool:
    """`detect_faces`: False only for the exact word `false`."""
    return values.get("detect_faces") != "false"
