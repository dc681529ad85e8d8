"""The public peers' Python environment, created once in `.cache/venv-peers`."""

from __future__ import annotations

from pathlib import Path

from bench.environments import ensure as ensure_environment

PACKAGES = {
    "insightface": "insightface==2.1",
    "uniface": "uniface==4.2.1",
    "onnxruntime": "onnxruntime",
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
    return ensure_environment("venv-peers", PACKAGES, "the public peers")
