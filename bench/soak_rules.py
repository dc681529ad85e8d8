"""The soak test's rules: when a connection may break, and when two answers are equal."""

from __future__ import annotations

import math
import time
from typing import Any

MIN_COSINE = 0.9999


class Downtime:
    """The time from a kill to the next process's first answer, when connections may break."""

    def __init__(self) -> None:
        self._gone = self._back = 0.0  # not killed yet

    def kill(self) -> None:
        """Notes that the process is about to be killed."""
        self._gone = self._back = math.inf

    def gone(self) -> None:
        """Notes that the process has ended."""
        self._gone = time.monotonic()

    def answered(self, began: float) -> None:
        """Notes an answer to a request of that time: by the next process if the last had ended."""
        if began > self._gone:
            self._back = min(self._back, time.monotonic())

    def covers(self, began: float) -> bool:
        """Whether the connection of a request that began then may break."""
        return began < self._back


def same(expected: Any, actual: Any) -> bool:
    """Equal but for times; embeddings by their cosine, other numbers to the fifth digit."""
    if isinstance(expected, dict):
        return (
            isinstance(actual, dict)
            and expected.keys() == actual.keys()
            and all(
                key in ("execution_time", "measured") or _close(key, value, actual[key])
                for key, value in expected.items()
            )
        )
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(expected) == len(actual)
            and all(same(a, b) for a, b in zip(expected, actual, strict=True))
        )
    if isinstance(expected, float):
        return isinstance(actual, int | float) and abs(expected - actual) <= 1e-5 + 1e-4 * abs(
            expected
        )
    return bool(expected == actual)


def _close(key: str, expected: Any, actual: Any) -> bool:
    if key != "embedding":
        return same(expected, actual)
    if len(expected) != len(actual):
        return False
    dot = sum(a * b for a, b in zip(expected, actual, strict=True))
    norms = [sum(a * a for a in vector) ** 0.5 for vector in (expected, actual)]
    return bool(dot >= MIN_COSINE * norms[0] * norms[1])
