"""The mark of a migration under way, beside an instance's record, for whoever asks for its state.

What has happened to the faces stands in the database alone; this says how to go on.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from compreface_cli.config import paths

Phase = Literal["computing", "switching"]


@dataclass(frozen=True, slots=True)
class Mark:
    """`computing`: the instance runs as before. `switching`: its api may be stopped."""

    phase: Phase
    build: str  # that it migrates to
    command: str  # that goes on with it


def mark(instance: str, wanted: Mark) -> None:
    path = _path(instance)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(asdict(wanted)), encoding="utf-8")
    os.replace(part, path)


def unmark(instance: str) -> None:
    _path(instance).unlink(missing_ok=True)


def marked(instance: str) -> Mark | None:
    """The mark; None without one, and for one that cannot be read."""
    try:
        document = json.loads(_path(instance).read_text(encoding="utf-8"))
        return Mark(**document)
    except (OSError, ValueError, TypeError):
        return None


def _path(instance: str) -> Path:
    return paths.instances_dir() / instance / "migration.json"
