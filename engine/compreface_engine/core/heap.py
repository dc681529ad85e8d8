"""Settings of glibc's heap for arrays that are allocated and freed many times a picture."""

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
    """Makes all threads use one heap that keeps up to 32 MiB free at its end.

    By default each thread has a heap that returns memory to the system as soon as a few arrays are
    freed, and then pays a page fault for each 4 KiB: docs/decisions/runtime-memory.md. Other C
    libraries than glibc stay unchanged.
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
