"""Python environments of the compared programs: created once in `.cache`, then completed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from compreface_cli import locks

ROOT = Path(__file__).resolve().parent.parent
_MISSING = (
    "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if not u.find_spec(n)])"
)


def ensure(folder_name: str, packages: Mapping[str, str], what: str) -> Path:
    """The interpreter of `.cache/<folder_name>`; `packages` maps a module to its requirement."""
    folder = ROOT / ".cache" / folder_name
    python = folder / "bin" / "python"
    folder.parent.mkdir(exist_ok=True)
    with locks.hold(folder.with_suffix(".lock"), str(folder), wait_s=float("inf"), note=print):
        if not python.exists():
            print(f"making {folder} with {what} (once) ...", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        result = subprocess.run(
            [str(python), "-c", _MISSING, *packages], capture_output=True, text=True, check=True
        )
        missing = [packages[name] for name in result.stdout.split()]
        if missing:
            pip = [str(python), "-m", "pip", "-q", "--disable-pip-version-check", "install"]
            subprocess.run([*pip, *missing], check=True, stdout=sys.stderr)
    return python
