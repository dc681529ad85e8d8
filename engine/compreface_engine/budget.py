"""The memory budget of pictures: shared by all workers, counted before decoding."""

from __future__ import annotations

import threading
from typing import Final

from compreface_engine.core.errors import MemoryInUse, TooMuchMemory

MAX_OVERTAKES: Final = 8
"""How many computations may acquire memory while another waits for it; then that one is next."""
UNLIMITED: Final = 2**63


class Budget:
    """A number of bytes that computations acquire and release. All methods are thread-safe."""

    def __init__(self, size: int = UNLIMITED) -> None:
        self.size = size
        self._used = 0
        self._lock = threading.Lock()
        self._overtakes: int | None = None  # None: nothing waits

    @property
    def used(self) -> int:
        """Bytes that are acquired now."""
        return self._used

    def acquire(self, count: int) -> bool:
        """Acquires `count` bytes. False where they are not free, or where the first that waits
        has been overtaken MAX_OVERTAKES times.
        """
        with self._lock:
            if self._overtakes is not None and self._overtakes >= MAX_OVERTAKES:
                return False
            if not self._fits(count):
                return False
            if self._overtakes is not None:
                self._overtakes += 1
            return True

    def acquire_first(self, count: int) -> bool:
        """`acquire` for the computation that has waited longest."""
        with self._lock:
            return self._fits(count)

    def release(self, count: int) -> None:
        """Gives `count` bytes back."""
        with self._lock:
            self._used -= count

    def set_waiting(self, waiting: bool) -> None:
        """Notes that another computation is now the first that waits, or (False) that none does."""
        with self._lock:
            self._overtakes = 0 if waiting else None

    def _fits(self, count: int) -> bool:
        if count > self.size - self._used:
            return False
        self._used += count
        return True


class Share:
    """The part of a budget that one computation holds."""

    __slots__ = ("_budget", "held")

    def __init__(self, budget: Budget, held: int = 0) -> None:
        """`held` bytes are already acquired from `budget`."""
        self._budget = budget
        self.held = held

    def reserve(self, total: int) -> None:
        """Increases the share to `total` bytes; does nothing where it is larger already.

        Raises TooMuchMemory where `total` exceeds the budget, and MemoryInUse where other
        computations hold it now. The caller must then end and release its share before it waits:
        two that wait for each other's memory would wait for ever.
        """
        if total <= self.held:
            return
        if total > self._budget.size:
            raise TooMuchMemory(total, self._budget.size)
        if not self._budget.acquire(total - self.held):
            raise MemoryInUse(total)
        self.held = total

    def release(self) -> None:
        """Gives all bytes back."""
        self._budget.release(self.held)
        self.held = 0
