"""Returns memory that loading a network freed to the system."""

from __future__ import annotations

import ctypes


def return_freed_memory() -> None:
    """With glibc, where it is more than the size of the model; nothing with another C library."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return
