"""Child processes that end with the `cf` that started them, and hear none of its variables."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence


def run(command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """The finished command with what it printed, whatever its exit code.

    It is killed after `timeout_s` (subprocess.TimeoutExpired) and when this process ends. The
    engine's variables (CF_...) of this environment are not passed on.
    """
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={key: value for key, value in os.environ.items() if not key.startswith("CF_")},
        check=False,
        preexec_fn=die_with(os.getpid()),
    )


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
