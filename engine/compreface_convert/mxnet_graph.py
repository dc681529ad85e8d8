"""An MXNet network: steps, weights, and attributes with MXNet's defaults."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array

_LIMIT: Final = 1 << 20
_WHOLE: Final = re.compile(r"(-?\d{1,12})L?")


@dataclass(frozen=True, slots=True)
class Attrs:
    """The attributes of a step, stored as text; an absent one has MXNet's default."""

    texts: Mapping[str, str] = field(default_factory=dict)

    def text(self, key: str, default: str) -> str:
        return self.texts.get(key, default).strip()

    def flag(self, key: str, default: bool) -> bool:
        value = self.text(key, str(default)).lower()
        if value not in ("true", "false", "1", "0"):
            raise ConvertError(f"{key} is {value[:40]!r}, not True or False")
        return value in ("true", "1")

    def real(self, key: str, default: float) -> float:
        try:
            value = float(self.text(key, repr(default)))
        except ValueError as error:
            raise ConvertError(f"{key} is not a number") from error
        if not math.isfinite(value):
            raise ConvertError(f"{key} is {value}")
        return value

    def whole(self, key: str, default: int) -> int:
        values = self.sizes(key, (default,))
        if len(values) != 1:
            raise ConvertError(f"{key} has {len(values)} values")
        return values[0]

    def sizes(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Integers, written `(3, 3)`, `(3,3)`, `[3, 3]` or `3`, in old files `(3L, 3L)`."""
        value = self.texts.get(key)
        if value is None:
            return default
        parts = [part.strip() for part in value.strip().strip("()[]").split(",")]
        matches = [_WHOLE.fullmatch(part) for part in parts if part]
        numbers = tuple(int(match[1]) for match in matches if match)
        if len(numbers) != len(matches) or any(abs(number) > _LIMIT for number in numbers):
            raise ConvertError(f"{key} is {value[:40]!r}, not integers")
        return numbers

    def pair(self, key: str, default: int, least: int) -> tuple[int, int]:
        """Height and width, each at least `least`."""
        values = self.sizes(key, ()) or (default, default)
        if len(values) != 2 or min(values) < least:
            raise ConvertError(f"{key} {list(values)} is not supported")
        return values[0], values[1]


@dataclass(frozen=True, slots=True)
class Step:
    """An operation; `inputs` name other steps, the picture or weights."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: Attrs


@dataclass(frozen=True, slots=True)
class Network:
    """Steps in topological order; `outputs` maps public names to values."""

    steps: tuple[Step, ...]
    weights: Mapping[str, Array]
    picture: str
    outputs: Mapping[str, str]
