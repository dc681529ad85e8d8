"""Child processes: the environment variables they inherit, and their end together with `cf`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# Variables that an engine may need: search paths, folders, language, the GPU's libraries.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_OF_THE_GPU = ("CUDA_", "NVIDIA_")


def inherited_environment() -> dict[str, str]:
    """The variables that an engine process inherits; without settings of `cf` and of Python."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_OF_THE_GPU)
    }


def die_with(parent: int) -> Callable[[], None]:
    """A `preexec_fn` with which Linux sends the child SIGTERM when the process `parent` ends.

    Takes no lock that another thread could hold, so it is safe in a process with threads.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def set_death_signal() -> None:
        if prctl is None:
            return
        # Until exec, a handler inherited from the parent would swallow the signal.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it ended before prctl was called
            os._exit(1)

    return set_death_signal
