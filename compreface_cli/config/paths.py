"""The user's folders by the XDG base directory specification; creates none of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from compreface_cli.errors import CfError, ConfigurationError

APP = "compreface-cli"

WAY_OUT = (
    "Set HOME, or XDG_DATA_HOME, XDG_STATE_HOME and XDG_CACHE_HOME, "
    "to folders that this user can write."
)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    # The specification says that a relative value is ignored.
    if os.path.isabs(value):
        return Path(value) / APP
    try:
        return Path.home() / fallback / APP
    except RuntimeError as error:
        raise ConfigurationError("this user has no home folder", hint=WAY_OUT) from error


def config_dir() -> Path:
    return _xdg("XDG_CONFIG_HOME", ".config")


def data_dir() -> Path:
    return _xdg("XDG_DATA_HOME", ".local/share")


def state_dir() -> Path:
    return _xdg("XDG_STATE_HOME", ".local/state")


def cache_dir() -> Path:
    return _xdg("XDG_CACHE_HOME", ".cache")


def user_file() -> Path:
    """The user's settings file."""
    return config_dir() / "config.yaml"


def user_builds() -> Path:
    """The folder of the user's builds."""
    return data_dir() / "builds"


def imported_builds() -> Path:
    """The builds that were imported, one folder each."""
    return data_dir() / "imported"


def models_dir() -> Path:
    """The prepared models, one folder each."""
    return data_dir() / "models"


def engine_environments_dir() -> Path:
    """The engine's virtual environments, each named by the hash of its inputs."""
    return data_dir() / "engine-env"


def project_dir(instance: str) -> Path:
    """The rendered Compose project of an instance."""
    return data_dir() / "projects" / instance


def instances_dir() -> Path:
    return state_dir() / "instances"


def pushes_file() -> Path:
    """Where each image was pushed to."""
    return state_dir() / "pushes.json"


def refused(error: OSError) -> CfError | None:
    """The user's error for an OSError that the user can fix, else None.

    A full disk, one of these folders that cannot be used, or a removed working folder.
    """
    if error.errno == errno.ENOENT and error.filename is None:  # os.getcwd()
        message = "the working folder does not exist any more"
        return ConfigurationError(message, hint="cd to another folder")
    path = Path(error.filename) if isinstance(error.filename, (str, os.PathLike)) else None
    if error.errno in _FULL:
        return CfError(f"{path or 'a file'} cannot be written: {error.strerror}", hint=room(path))
    if path is None or error.errno not in _REFUSED or moved_by(path) in ("", "TMPDIR"):
        return None
    return ConfigurationError(f"cf cannot use {path}: {error.strerror}", hint=WAY_OUT)


def _folders() -> dict[str, Path]:
    """Each folder, by the variable that sets it."""
    return {
        "XDG_STATE_HOME": state_dir(),
        "XDG_DATA_HOME": data_dir(),
        "XDG_CACHE_HOME": cache_dir(),
        "XDG_CONFIG_HOME": config_dir(),
    }


def moved_by(path: Path) -> str:
    """The variable that sets where `cf` writes this path; "" if none does."""
    import tempfile

    temporary = Path(tempfile.gettempdir())
    for variable, folder in _folders().items():
        above = folder.is_relative_to(path) and path != temporary
        if above or path.is_relative_to(folder):
            return variable
    return "TMPDIR" if path.is_relative_to(temporary) else ""


def room(path: Path | None) -> str:
    """The hint for a full disk at this path; None: the path is not known."""
    if path is None:
        variable = "XDG_DATA_HOME, XDG_STATE_HOME or XDG_CACHE_HOME"
    elif not (variable := moved_by(path)):
        return "Free some space there."
    return f"Free some space, or set {variable} to a folder on a larger disk."
