"""Arrays that come and go in any thread cost no page faults once their memory was touched."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from tests.shared import ROOT

PROGRAM = """
import resource, sys, threading
import numpy as np
from compreface_engine.core.parallel import WorkerPool

if sys.argv[1] == "pool":
    WorkerPool(2)

def work():
    for _ in range(3):
        use()
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(20):
        use()
    print(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)

def use():
    kept = [np.ones(500_000, np.float32) for _ in range(5)]

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def _faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        env={**os.environ, "PYTHONPATH": str(ROOT / "engine")},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the heap is tuned for glibc only")
def test_a_crews_memory_is_kept_between_pictures() -> None:
    pages = 5 * 500_000 * 4 // 4096
    assert _faults("pool") < pages < _faults("plain")
