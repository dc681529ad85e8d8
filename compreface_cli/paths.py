"""The folders of this user, by the XDG rules; nothing is created here."""

from __future__ import annotations

import os
from pathlib import Path

APP = "compreface-cli"


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    # The XDG rules say that a relative value is ignored.
    base = Path(value) if os.path.isabs(value) else Path.home() / fallback
    return base / APP


def config_dir() -> Path:
    return _xdg("XDG_CONFIG_HOME", ".config")


def data_dir() -> Path:
    return _xdg("XDG_DATA_HOME", ".local/share")


def state_dir() -> Path:
    return _xdg("XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    return _xdg("XDG_CACHE_HOME", ".cache")


def user_file() -> Path:
    """The user's own settings."""
    return config_dir() / "config.yaml"


def user_builds() -> Path:
    """The user's own builds."""
    return data_dir() / "builds"


def models_dir() -> Path:
    """The prepared models, one folder each."""
    return data_dir() / "models"


def project_dir(instance: str) -> Path:
    """The rendered Compose project of an instance."""
    return data_dir() / "projects" / instance


def instances_dir() -> Path:
    return state_dir() / "instances"
