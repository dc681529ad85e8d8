"""The folders of this user, by the XDG rules; nothing is created here."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
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
    # The XDG rules say that a relative value is ignored.
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
    """The user's own settings."""
    return config_dir() / "config.yaml"


def user_builds() -> Path:
    """The user's own builds."""
    return data_dir() / "builds"


def models_dir() -> Path:
    """The prepared models, one folder each."""
    return data_dir() / "models"


def engine_environments_dir() -> Path:
    """Private Python environments of the engine, each named by a hash of what it was made from."""
    return data_dir() / "engine-env"


def project_dir(instance: str) -> Path:
    """The rendered Compose project of an instance."""
    return data_dir() / "projects" / instance


def instances_dir() -> Path:
    return state_dir() / "instances"


def refused(error: OSError) -> CfError | None:
    """What an error of the system means when it is about one of these folders; else None.

    The folder that the user stands in counts as well; a full disk counts wherever it is.
    """
    if isinstance(error, FileNotFoundError) and _stands_nowhere(error.filename):
        return ConfigurationError(
            "the working folder does not exist any more", hint="cd to another folder"
        )
    named = isinstance(error.filename, (str, os.PathLike))
    if error.errno in _FULL:
        return _full(error, Path(error.filename).absolute() if named else None)
    if not named:
        return None
    path = Path(error.filename).absolute()
    folders = (config_dir(), data_dir(), state_dir(), cache_dir())
    above = any(folder.is_relative_to(path) for folder in folders)  # it would be made there
    inside = next((folder for folder in folders if path.is_relative_to(folder)), None)
    if error.errno == errno.ENOENT and above:  # a parent that is no real disk: /proc
        message = f"cf cannot make its folder {path}: {error.strerror}"
    elif error.errno not in _REFUSED:
        return None
    elif inside is not None:
        message = f"cf cannot use its folder {inside}: {path}: {error.strerror}"
    elif above:
        message = f"cf cannot make its folders below {path}: {error.strerror}"
    else:
        return None
    return ConfigurationError(message, hint=WAY_OUT)


def _folders() -> dict[str, Path]:
    """The variable that says where each folder is -> the folder."""
    return {
        "XDG_STATE_HOME": state_dir(),
        "XDG_DATA_HOME": data_dir(),
        "XDG_CACHE_HOME": cache_dir(),
        "XDG_CONFIG_HOME": config_dir(),
    }


def moved_by(path: Path) -> str:
    """The variable that moves what `cf` writes at this path elsewhere; "" when none does."""
    import tempfile

    temporary = Path(tempfile.gettempdir())
    for variable, folder in _folders().items():
        above = folder.is_relative_to(path) and path != temporary
        if above or path.is_relative_to(folder):
            return variable
    return "TMPDIR" if path.is_relative_to(temporary) else ""


def room(path: Path) -> str:
    """What to do where this path lies on a full disk."""
    variable = moved_by(path)
    if not variable:
        return "Free some space there."
    return f"Free some space, or set {variable} to a folder on a larger disk."


def _full(error: OSError, path: Path | None) -> CfError:
    if path is None:
        return CfError(
            f"a file cannot be written: {error.strerror}",
            hint="Free some space, or set XDG_DATA_HOME, XDG_STATE_HOME or XDG_CACHE_HOME "
            "to a folder on a larger disk.",
        )
    variable = moved_by(path)
    if variable == "TMPDIR":
        return CfError(f"{path} cannot be written: {error.strerror}", hint=room(path))
    if variable:
        folder = _folders()[variable]
        return CfError(
            f"cf cannot write in its folder {folder}: {path}: {error.strerror}", hint=room(path)
        )
    return CfError(f"{path} cannot be written: {error.strerror}", hint="Free some space there.")


@contextmanager
def about(path: Path) -> Iterator[None]:
    """What the system refuses here is about this file, also where it does not name one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _stands_nowhere(name: object) -> bool:
    """No path, or one from the working folder on, was not found because that folder is gone."""
    if isinstance(name, (str, os.PathLike)) and os.path.isabs(name):
        return False
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False
