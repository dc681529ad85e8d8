"""TensorFlow's Python environment, created once in `.cache/venv-tensorflow`."""

from __future__ import annotations

from pathlib import Path

from bench.environments import ROOT
from bench.environments import ensure as ensure_environment

PACKAGES = {
    # the version of `make test-frameworks`, which uses this environment too
    "tensorflow": f"-r{ROOT / 'tests' / 'frameworks' / 'requirements.txt'}",
    "cv2": "opencv-python-headless",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
    "httptools": "httptools",
    "uvloop": "uvloop",
    "python_multipart": "python-multipart",
    "orjson": "orjson",
}


def ensure() -> Path:
    """The interpreter, after the missing packages are installed."""
    return ensure_environment("venv-tensorflow", PACKAGES, "TensorFlow, 600 MB")
