"""Where files of models came from: a note beside each download, which its prepared model keeps."""

from __future__ import annotations

from pathlib import Path


def keep(download: Path, source: str) -> None:
    """Note the source of a downloaded file; raises OSError."""
    _beside(download).write_text(source + "\n", encoding="utf-8")


def of(path: Path) -> str:
    """The source of a downloaded file; the path itself of one that the user put there."""
    try:
        return _beside(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return str(path)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.source")
