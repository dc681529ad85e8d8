"""What holds for all tests: a property test may be slow on a busy machine, never wrong."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("busy", deadline=None)
settings.load_profile("busy")
