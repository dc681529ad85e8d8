"""Keeps the data of YAML files as JSON: importing a YAML parser takes long."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from compreface_cli.config import paths
from compreface_cli.config.textfile import read_bytes


def data(path: Path, parse: Callable[[bytes, str], Any]) -> Any:
    """What `parse` makes of the file's content and name, kept as long as the content is the same.

    Raises ConfigurationError for a file that cannot be read, and what `parse` raises.
    """
    raw = read_bytes(path, str(path))
    digest = hashlib.sha256(raw).hexdigest()
    place = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    kept = paths.cache_dir() / "parsed" / f"{place}.json"
    try:
        document = json.loads(kept.read_bytes())
        if document["of"] == digest:
            return document["data"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not kept yet, or damaged
    parsed = parse(raw, str(path))
    try:
        text = json.dumps({"of": digest, "data": parsed})
    except TypeError:  # a date, which JSON does not have
        return parsed
    if json.loads(text)["data"] == parsed:
        _keep(kept, text)
    return parsed


def _keep(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, "utf-8")
        part.replace(path)
    except OSError:  # a cache that cannot be written is none
        with suppress(OSError):
            part.unlink()
