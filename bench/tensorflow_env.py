"""TensorFlow in an environment of its own, made once and kept in `.cache/venv-tensorflow`."""

from __future__ import annotations

from pathlib import Path

from bench.environments import ensure as ensure_environment

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


def ensure() -> Path:
    """The interpreter; installs only what is not there yet."""
    return ensure_environment("venv-tensorflow", PACKAGES, "TensorFlow, 600 MB")
