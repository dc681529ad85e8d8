"""The pictures of the recordings: the repository's, and those of the shared folder beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared import ROOT, SHARED

RECORDINGS = ROOT / "tests" / "contract" / "recordings"
_SHARED_FOLDERS = {"photographs": "faces/compreface-samples", "inputs": "contract/golden/inputs"}


def is_here(source: str) -> bool:
    """Whether a picture, as `photographs/000_5.jpg` of a recording names it, can be read."""
    return _path(source).is_file()


def picture(source: str) -> bytes:
    """The bytes of a picture; skips the test, with its name, where it is nowhere."""
    path = _path(source)
    if not path.is_file():
        pytest.skip(f"{source} is not in the repository, nor is the folder CF_SHARED with it here")
    return path.read_bytes()


def photographs() -> list[Path]:
    """The sample photographs that are here, each once, by name."""
    folders = [RECORDINGS / "photographs"]
    if SHARED is not None:
        folders.append(SHARED / _SHARED_FOLDERS["photographs"])
    by_name = {path.name: path for folder in reversed(folders) for path in folder.glob("*.jpg")}
    return [by_name[name] for name in sorted(by_name)]


def _path(source: str) -> Path:
    path = RECORDINGS / source
    if path.is_file() or SHARED is None:
        return path
    folder, _, name = source.partition("/")
    return SHARED / _SHARED_FOLDERS[folder] / name
