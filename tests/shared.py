"""Where the shared folder of weights and photographs lies; no other test names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_candidate = Path(os.environ.get("CF_SHARED", ROOT.parent / "shared"))
SHARED: Path | None = _candidate if (_candidate / "models").is_dir() else None

NO_SHARED = f"the shared folder of weights and photographs is absent ({_candidate})"
needs_shared = pytest.mark.skipif(SHARED is None, reason=NO_SHARED)


def shared(*parts: str) -> Path:
    """A path inside the shared folder; only for tests marked `needs_shared`."""
    assert SHARED is not None
    return SHARED.joinpath(*parts)
