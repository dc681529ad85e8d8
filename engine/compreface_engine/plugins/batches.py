"""How many crops go through a network together."""

from __future__ import annotations

from collections.abc import Iterator


def slices(count: int, most: int) -> Iterator[slice]:
    """Cuts `count` rows into as few slices of at most `most` as there can be, sizes balanced."""
    parts = -(-count // most)
    start = 0
    for part in range(parts):
        end = count * (part + 1) // parts
        yield slice(start, end)
        start = end
