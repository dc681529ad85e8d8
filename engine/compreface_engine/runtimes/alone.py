"""More threads for a network while nothing else computes, where measurements show a gain."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from compreface_engine.runtimes.base import Session

WORTH_IT: Final = 0.9
"""The wide session must take less than this share of the narrow one's time. The same session of
two threads takes 16 or 27 ms in different processes, so each process measures its own.
"""
_ROUNDS: Final = range(3, 8)  # the fewest and the most
_TIMING_S: Final = 0.3


class WideWhenAlone:
    """A `Session` over two sessions of one network: `narrow` on one thread, `wide` on all cores.

    Several requests fill the cores with narrow runs; a single request would leave all cores but one
    idle. Until `settle` every run is narrow, and the largest feeds are kept to measure with.
    """

    def __init__(
        self, narrow: Session, wide: Session, threads: int, idle_workers: Callable[[], int]
    ) -> None:
        """`threads` of `wide`, which runs while `idle_workers()` counts all of them but one."""
        self.inputs = narrow.inputs
        self.outputs = narrow.outputs
        self.threads = 1
        """The threads of a run while nothing else computes."""
        self._narrow = narrow
        self._wide: Session | None = wide
        self._wide_threads = threads
        self._idle_workers = idle_workers
        self._settled = False
        self._largest: tuple[Mapping[str, NDArray[Any]], Sequence[str] | None] | None = None

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """See `Session`."""
        if self._wide is None:
            return self._narrow.run(feeds, outputs)
        if not self._settled:
            if self._largest is None or _size(feeds) > _size(self._largest[0]):
                self._largest = feeds, outputs
            return self._narrow.run(feeds, outputs)
        alone = self._idle_workers() >= self._wide_threads - 1
        return (self._wide if alone else self._narrow).run(feeds, outputs)

    def settle(self) -> None:
        """Times both in turn on the largest feeds so far; keeps `wide` only if it is fast enough.

        A network that has not run yet stays narrow. To be called once, before requests arrive.
        """
        if self._largest is not None and self._wide is not None:
            best = self._time(self._wide, *self._largest)
            if best[1] < best[0] * WORTH_IT:
                self.threads = self._wide_threads
        if self.threads == 1:
            self._wide = None
        self._largest = None
        self._settled = True

    def _time(
        self, wide: Session, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None
    ) -> list[float]:
        """Seconds of the fastest run of each, since disturbances only make a run longer."""
        best = [float("inf"), float("inf")]
        until = time.perf_counter() + _TIMING_S
        wide.run(feeds, outputs)  # the first run of a shape allocates
        for done in range(_ROUNDS.stop):
            for index, session in enumerate((self._narrow, wide)):
                started = time.perf_counter()
                session.run(feeds, outputs)
                best[index] = min(best[index], time.perf_counter() - started)
            if done + 1 >= _ROUNDS.start and time.perf_counter() > until:
                break
        return best


def _size(feeds: Mapping[str, NDArray[Any]]) -> int:
    return sum(value.nbytes for value in feeds.values())
