"""How the rows of a batch are split into runs of a network."""

from __future__ import annotations

from collections.abc import Iterator


def slices(count: int, most: int, workers: int = 1) -> Iterator[slice]:
    """Splits `count` rows into the fewest slices of at most `most`, with balanced sizes.

    The number of slices is a multiple of `workers` where there are enough rows.
    """
    parts = min(count, -(-count // (most * workers)) * workers)
    start = 0
    for part in range(parts):
        end = count * (part + 1) // parts
        yield slice(start, end)
        start = end


def rows_per_run(count: int, most: int, idle_workers: int) -> int:
    """The most rows of one run, at least 1.

    One run costs the least; several finish earlier where idle workers can take some of them.
    """
    return max(1, min(most, -(-count // (1 + idle_workers))))
