"""More threads for a network while nothing else computes, where measuring says that it helps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from compreface_engine.runtimes.base import Session

WORTH_IT: Final = 0.9
"""The wide session must need less than so much of the narrow one's time. One and the same session
of two threads comes out at 16 or at 27 ms in different processes: each process decides for its own.
"""
_ROUNDS: Final = range(3, 8)  # at least, at most
_TIMING_S: Final = 0.3


class WideWhenAlone:
    """A `Session` over two of one network: `narrow` on one thread, `wide` on all cores.

    Several requests fill the cores with narrow runs; a request that is alone leaves them idle, but
    for the thread that runs its network. Until `settle` every run is narrow, and the largest feeds
    are kept to measure with.
    """

    def __init__(
        self, narrow: Session, wide: Session, threads: int, idle: Callable[[], int]
    ) -> None:
        """`threads` of `wide`, which is taken while `idle()` says that all but one are free."""
        self.inputs = narrow.inputs
        self.outputs = narrow.outputs
        self.threads = 1
        """What a run that is alone gets."""
        self._narrow = narrow
        self._wide: Session | None = wide
        self._wide_threads = threads
        self._idle = idle
        self._settled = False
        self._seen: tuple[Mapping[str, NDArray[Any]], Sequence[str] | None] | None = None

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """See `Session`."""
        if self._wide is None:
            return self._narrow.run(feeds, outputs)
        if not self._settled:
            if self._seen is None or _size(feeds) > _size(self._seen[0]):
                self._seen = feeds, outputs
            return self._narrow.run(feeds, outputs)
        alone = self._idle() >= self._wide_threads - 1
        return (self._wide if alone else self._narrow).run(feeds, outputs)

    def settle(self) -> None:
        """Times both on the largest feeds so far, in turn; keeps `wide` only where it is worth it.

        A network that never ran until now stays narrow. To be called once, before requests come.
        """
        if self._seen is not None and self._wide is not None:
            best = self._time(self._wide, *self._seen)
            if best[1] < best[0] * WORTH_IT:
                self.threads = self._wide_threads
        if self.threads == 1:
            self._wide = None
        self._seen = None
        self._settled = True

    def _time(
        self, wide: Session, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None
    ) -> list[float]:
        """Seconds of the fastest run of each: what disturbs a run only ever makes it longer."""
        best = [float("inf"), float("inf")]
        until = time.perf_counter() + _TIMING_S
        wide.run(feeds, outputs)  # the first run of a shape sets things up
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
