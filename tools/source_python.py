"""An interpreter for `cf` that runs the engine and its converter from this checkout."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

ENGINE = Path(__file__).resolve().parent.parent / "engine"


def write(folder: Path) -> Path:
    """Write it to `folder`: this Python, with the sources on its path despite `-I`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "source-python"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = -I ] && shift\n'
        f'PYTHONPATH={shlex.quote(str(ENGINE))} exec {shlex.quote(sys.executable)} "$@"\n'
    )
    path.chmod(0o755)
    return path
