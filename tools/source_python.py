"""An interpreter that runs the engine and its converter from this checkout, as `cf` calls them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

ENGINE = Path(__file__).resolve().parent.parent / "engine"


def write(folder: Path) -> Path:
    """Writes it into `folder`: this Python, with the sources in its path in spite of `-I`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "source-python"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = -I ] && shift\n'
        f'PYTHONPATH={shlex.quote(str(ENGINE))} exec {shlex.quote(sys.executable)} "$@"\n'
    )
    path.chmod(0o755)
    return path
