"""Strikes secrets, and what names a person, out of text that leaves this machine."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

MARK = "[struck out]"
# Names of variables, settings and headers whose values are secrets.
_NAME = (
    r"(?:[A-Za-z0-9_.-]*(?:password|passwd|passphrase|secret|token|credential|api[_-]?keys?|"
    r"private[_-]?key|access[_-]?key|authorization|cookie|session)[A-Za-z0-9_.-]*)"
)
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_SHORT = 4  # a shorter value is struck out only as a word of its own
# What stands in logs: each pattern keeps its groups, and the mark takes the place of the rest.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
            MARK,
        ),
        (r"\b([a-z][a-z0-9+.-]*://)[^\s/@\"']+@", rf"\1{MARK}@"),  # name and password of a URL
        (r"\b(Basic|Bearer|Digest|Negotiate)(\s+|%20)[A-Za-z0-9+/=._~-]{4,}", rf"\1 {MARK}"),
        (r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?", MARK),  # a JSON web token
        # A service's API key is a UUID, and so are the ids of faces and images.
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", MARK),
        (r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", MARK),  # an address of a person
        (r"((?:first|last)_?name\"?[=:]\s*)[^,)}]*", rf"\1{MARK}"),
        (r"([?&;]subject=)[^\s&\"']*", rf"\1{MARK}"),
        (r"(/subjects/)[^\s?/\"']+", rf"\1{MARK}"),
        (r"(\"?\bsubject(?:_?name)?\"?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;)}&\]]+)", rf"\1{MARK}"),
        (
            rf"(\"?\b{_NAME}\"?\s*[:=]\s*)(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,;)}}&\]]+)",
            rf"\1{MARK}",
        ),
        # An embedding: face data.
        (r"\[\s*-?\d+\.\d+(?:e-?\d+)?(?:\s*,\s*-?\d+\.\d+(?:e-?\d+)?){15,}\s*\]", MARK),
        (r"[A-Za-z0-9+/]{200,}={0,2}", MARK),  # a photograph in base64
    )
)


def is_secret(name: str) -> bool:
    """Whether a variable or setting of that name holds a secret, by its name."""
    return _SECRET_NAME.fullmatch(name) is not None


class Striker:
    """Strikes out the given values in all their spellings, and whatever looks like a secret."""

    def __init__(self, values: Iterable[str]) -> None:
        spelled = {each for value in values for each in _spellings(value)}
        # The longest first: one value may contain another.
        self._values = [_pattern(each) for each in sorted(spelled, key=len, reverse=True)]

    def __call__(self, text: str) -> str:
        for value in self._values:
            text = value.sub(MARK, text)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text


def _spellings(value: str) -> set[str]:
    """The value as it stands in files, URLs, JSON, Compose, shell and `Authorization`."""
    value = value.strip()
    if not value:
        return set()
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")
    return {
        value,
        quote(value, safe=""),
        quote(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        value.replace("$", "$$"),
        value.replace("'", "'\\''"),
        value.replace("'", "''"),
        *([encoded] if len(encoded) >= _SHORT else []),
    }


def _pattern(value: str) -> re.Pattern[str]:
    escaped = re.escape(value)
    if len(value) >= _SHORT:
        return re.compile(escaped)
    return re.compile(rf"(?<![A-Za-z0-9_-]){escaped}(?![A-Za-z0-9_-])")
