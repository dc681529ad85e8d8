"""TensorFlow in an environment of its own, made once and kept in `.cache/venv-tensorflow`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache" / "venv-tensorflow"
PACKAGES = {
    "tensorflow": "tensorflow",
    "cv2": "opencv-python-headless",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "httptools": "httptools",
    "uvloop": "uvloop",
    "python_multipart": "python-multipart",
    "orjson": "orjson",
}
_MISSING = (
    "import importlib.util as u, sys; print(*[n for n in sys.argv[1:] if not u.find_spec(n)])"
)


def ensure() -> Path:
    """The interpreter; installs only what is not there yet."""
    python = FOLDER / "bin" / "python"
    FOLDER.parent.mkdir(exist_ok=True)
    with FileLock(FOLDER.with_suffix(".lock")):
        if not python.exists():
            print(f"making {FOLDER} with TensorFlow (600 MB, once) ...", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
        found = subprocess.run(
            [str(python), "-c", _MISSING, *PACKAGES], capture_output=True, text=True, check=True
        )
        missing = [PACKAGES[name] for name in found.stdout.split()]
        if missing:
            pip = [str(python), "-m", "pip", "-q", "--disable-pip-version-check", "install"]
            subprocess.run([*pip, *missing], check=True, stdout=sys.stderr)
    return python
