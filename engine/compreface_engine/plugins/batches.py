"""How many crops go through a network together."""

from __future__ import annotations

from collections.abc import Iterator


def slices(count: int, most: int, hands: int = 1) -> Iterator[slice]:
    """Cuts `count` rows into as few slices of at most `most` as there can be, sizes balanced.

    Each of the `hands` gets as many of them as the others, if the rows suffice.
    """
    parts = min(count, -(-count // (most * hands)) * hands)
    start = 0
    for part in range(parts):
        end = count * (part + 1) // parts
        yield slice(start, end)
        start = end
