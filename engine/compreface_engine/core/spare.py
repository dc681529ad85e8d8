"""One large piece of memory that is used again, because touching new memory takes time."""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEAST: Final = 16 << 20  # less than this the heap keeps by itself, see `heap`
MOST: Final = 64 << 20  # 22 million pixels


class Spare:
    """Lends memory; what comes back last is kept for the next. Thread-safe."""

    def __init__(self) -> None:
        # Its operations are atomic: a lock could be asked for again by the garbage collector.
        self._kept: deque[NDArray[Any]] = deque(maxlen=1)

    def lend(self, size: int) -> memoryview | None:
        """`size` bytes that hold anything, the borrower's until nothing refers to them any more.

        Write all of them before anyone reads: they may show another picture. None where new
        memory is as good.
        """
        if not LEAST <= size <= MOST:
            return None
        try:
            memory = self._kept.pop()
        except IndexError:
            memory = np.empty(0, np.uint8)
        if len(memory) < size:
            memory = np.empty(size, np.uint8)
        # An owner for this loan alone: arrays over it refer to it, and not past it to `memory`.
        loan = (ctypes.c_ubyte * size).from_buffer(memory.data)
        weakref.finalize(loan, self._kept.append, memory).atexit = False
        return memoryview(loan).cast("B")
