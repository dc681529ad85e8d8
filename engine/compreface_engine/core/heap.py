"""How the C library keeps the memory that numpy takes and gives back many times a picture."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

# glibc's numbers for `mallopt`, from its malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT: Final = 32 << 20
_MAPPED: Final = 16 << 20


@cache
def share_one_heap() -> None:
    """One heap for all threads, which keeps up to 32 MiB at its end; nothing without glibc.

    By default every thread has a heap that gives memory back as soon as a few arrays are freed
    and pays a page fault for every 4 KiB when it takes it again: docs/decisions/runtime-memory.md.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    for parameter, value in (
        (_ARENA_MAX, 1),
        (_TRIM_THRESHOLD, _KEPT),
        (_MMAP_THRESHOLD, _MAPPED),
    ):
        mallopt(parameter, value)
