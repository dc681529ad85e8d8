"""For child processes: that they end with this `cf`, and which of its variables they get."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# What of the user's environment an engine may need: libraries of the GPU, places, language.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_OF_THE_GPU = ("CUDA_", "NVIDIA_")


def inherited_environment() -> dict[str, str]:
    """The variables of this process that one of the engine gets; no settings of `cf` or Python."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_OF_THE_GPU)
    }


def die_with(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: Linux sends the new process SIGTERM when `parent` dies, however it dies.

    Takes no lock that another thread could hold, so it may be used beside threads.
    """
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def ask() -> None:
        if prctl is None:
            return
        # Until the program is there, a handler of the parent's would hear it and do nothing.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        prctl(1, signal.SIGTERM)  # 1: PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it died before it was asked for
            os._exit(1)

    return ask
