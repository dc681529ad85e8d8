"""What a runtime gives: a session that runs named arrays to named arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray


class Session(Protocol):
    """One loaded network; `run` is thread-safe and releases the GIL."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """The named outputs (all, in the graph's order, by default)."""
        ...
