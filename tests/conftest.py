"""What holds for all tests: a busy machine or a caller's habits change no result."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# The same examples each time: a run that gates a change must not fail by the dice. New examples are
# for `--hypothesis-profile=explore`. Slow is fine: the first run in a clone reads every source.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore",
    # What Hypothesis has for a person: by itself it repeats its examples where it sees CI.
    parent=settings.get_profile("default"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("repeatable")

# `nohup` and a shell's background have the suite ignore these, and so would `cf` and every child.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        python_s_own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, python_s_own)

# `make test VENV=...` hands its options on to every make that a test starts.
for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"):
    os.environ.pop(name, None)
