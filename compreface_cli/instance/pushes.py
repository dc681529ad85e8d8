"""Which images were pushed where: the references by digest that their registries gave them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from compreface_cli.config import paths

KEPT = 100  # rows; the oldest is forgotten first
_MAX_BYTES = 1 << 20


def reference(id_: str, push_to: str) -> str:
    """The reference of the image of that id there; "" where it was not pushed by this user.

    The registry may have removed it since.
    """
    return _rows().get(f"{push_to} {id_}", "")


def record(id_: str, push_to: str, reference: str) -> None:
    """Remember that the image of that id is there; the file is written whole or not at all."""
    key = f"{push_to} {id_}"
    rows = {known: value for known, value in _rows().items() if known != key}
    kept = dict([*rows.items(), (key, reference)][-KEPT:])
    path = paths.pushes_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _rows() -> Mapping[str, str]:
    """Reference by "REGISTRY/FOLDER ID"; none where the file is missing or damaged."""
    try:
        with paths.pushes_file().open("rb") as stream:
            document = json.loads(stream.read(_MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    rows = document.items() if isinstance(document, dict) else ()
    return {key: value for key, value in rows if isinstance(value, str)}
