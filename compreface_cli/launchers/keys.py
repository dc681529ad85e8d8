"""An instance's API keys, kept in one file of mode 0600: `.env` for Compose, else `api-keys`."""

from __future__ import annotations

import os
from pathlib import Path

from compreface_cli.instance.state import Deployment
from compreface_cli.project.targets.compose import ENV_FILE
from compreface_cli.project.targets.swarm import ENGINE_KEY
from compreface_cli.project.writer import read_env

_FILE = "api-keys"
_VARIABLE = "CF_API_KEYS"  # in `.env`, and in records of earlier versions


def write(folder: Path, keys: str) -> Path:
    """Write the file of `keys` (comma-separated) for an engine that runs as a process."""
    path = folder / _FILE
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        # A `#` would begin a comment at a line's start, never after a comma.
        file.write(f",{keys}\n")
    return path


def file_of(deployment: Deployment) -> Path:
    """The file that has the instance's keys, if it requires any."""
    return Path(deployment.data["folder"]) / (
        _FILE if deployment.launcher == "process" else ENV_FILE
    )


def all_of(deployment: Deployment) -> tuple[str, ...]:
    """The keys that the engine accepts; empty if it requires none."""
    try:
        file = file_of(deployment)
        if deployment.launcher == "swarm":
            keys = read_env(file).get(ENGINE_KEY, "")
        elif deployment.launcher == "compose":
            keys = read_env(file).get(_VARIABLE, "")
        else:
            keys = file.read_text(encoding="ascii").strip().removeprefix(",")
    except (KeyError, OSError, UnicodeDecodeError):
        keys = deployment.data.get("env", {}).get(_VARIABLE, "")
    return tuple(filter(None, keys.split(",")))


def first(deployment: Deployment) -> str:
    """The key that `cf` sends to the engine; "" if it requires none."""
    return next(iter(all_of(deployment)), "")
