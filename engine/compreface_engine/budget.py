"""How much memory pictures may take together: shared by all workers, counted before decoding."""

from __future__ import annotations

import threading
from typing import Final

from compreface_engine.core.errors import NoRoom, TooMuchMemory

MOST_PASSES: Final = 8
"""So many others may take memory while one waits for it; after that it comes first."""
UNLIMITED: Final = 2**63


class Budget:
    """Bytes that are lent and given back. Every method may be called in any thread."""

    def __init__(self, size: int = UNLIMITED) -> None:
        self.size = size
        self._taken = 0
        self._lock = threading.Lock()
        self._passes: int | None = None  # None: nobody waits

    @property
    def taken(self) -> int:
        return self._taken

    def take(self, count: int) -> bool:
        """False where they are not free, or where another has waited long enough for what is."""
        with self._lock:
            if self._passes is not None and self._passes >= MOST_PASSES:
                return False
            if not self._fits(count):
                return False
            if self._passes is not None:
                self._passes += 1
            return True

    def take_first(self, count: int) -> bool:
        """`take` for the one that has waited longest."""
        with self._lock:
            return self._fits(count)

    def give(self, count: int) -> None:
        with self._lock:
            self._taken -= count

    def waited_for(self, by_somebody: bool) -> None:
        """Another one is now the first that waits, or nobody waits any more."""
        with self._lock:
            self._passes = 0 if by_somebody else None

    def _fits(self, count: int) -> bool:
        if count > self.size - self._taken:
            return False
        self._taken += count
        return True


class Share:
    """What one computation holds of a budget."""

    __slots__ = ("_budget", "held")

    def __init__(self, budget: Budget, held: int = 0) -> None:
        """`held` is taken already."""
        self._budget = budget
        self.held = held

    def reserve(self, total: int) -> None:
        """Makes it `total` bytes, if it is less.

        Raises TooMuchMemory where that can never be, and NoRoom where others hold it now: who gets
        that must end and give back what it holds before it waits, or two would wait for ever.
        """
        if total <= self.held:
            return
        if total > self._budget.size:
            raise TooMuchMemory(total, self._budget.size)
        if not self._budget.take(total - self.held):
            raise NoRoom(total)
        self.held = total

    def give_back(self) -> None:
        self._budget.give(self.held)
        self.held = 0
