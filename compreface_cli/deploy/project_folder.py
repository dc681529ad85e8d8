"""Writes the project folder of a Compose instance, and restores the old one after a failure."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from compreface_cli.cleanup import CleanUp
from compreface_cli.config import paths
from compreface_cli.errors import ConfigurationError
from compreface_cli.launchers import compose_project
from compreface_cli.plan.plan import Plan
from compreface_cli.project import writer
from compreface_cli.project.targets.compose import KEYS_FILE
from compreface_cli.project.writer import OVERRIDE


def write(plan: Plan, models: Mapping[str, Path], undo: CleanUp) -> Path:
    """Write the project of a settled plan; a later failure of the run restores the old folder."""
    from compreface_cli.project import writer
    from compreface_cli.project.targets import TARGETS

    folder = paths.project_dir(plan.instance)
    copy = kept(folder)
    rendered = TARGETS[plan.launcher].render()(plan, models)
    put_old_back(folder)
    was_there = folder.is_dir()

    def undone() -> None:
        # Left to the next run if another undo failed: `.env` has the password of a volume.
        if not undo.failures and (copy.is_dir() or not was_there):  # else nothing was changed yet
            _put_back(folder, copy)

    undo.push("the project folder", undone)
    if was_there:
        _keep(folder, copy)
    writer.write(rendered, folder)
    return folder


def refuse_broken(plan: Plan) -> None:
    """Raises ConfigurationError if Compose cannot read the user's own file in the project."""
    folder = paths.project_dir(plan.instance)
    command = compose_project.command(plan.project, folder)
    # Before the first start it is there alone: then Compose reads it with the new project.
    if f"--file={folder / OVERRIDE}" in command:
        compose_project.read(command, "--quiet")


def unlabelled(folder: Path) -> tuple[str, ...]:
    """The bind mounts in the user's own file of the project that have no label for SELinux."""
    if not (folder / OVERRIDE).is_file():
        return ()
    import yaml  # late: only where there is such a file

    try:
        document = yaml.safe_load((folder / OVERRIDE).read_text("utf-8"))
        services = document["services"].values()
        mounts = [mount for service in services for mount in service.get("volumes") or ()]
    except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return ()  # Compose itself says what is wrong with it
    return tuple(
        mount
        for mount in mounts
        if isinstance(mount, str)
        and mount.startswith((".", "/", "~"))
        and ":" in mount
        and not {"z", "Z"} & set(",".join(mount.split(":")[2:]).split(","))
    )


def _keep(folder: Path, copy: Path) -> None:
    """Copy the folder for the undo to restore. Raises ConfigurationError."""
    part = copy.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        # Links are enough: a file is never written in place, always replaced, but for that of keys.
        shutil.copytree(folder, part, copy_function=os.link, symlinks=True)
        if (keys := part / KEYS_FILE).is_file():
            keys.unlink()
            shutil.copy2(folder / KEYS_FILE, keys)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = error.strerror
        if isinstance(error, shutil.Error):  # which lists all failures with the system's messages
            reason = str(error.args[0][0][2])
        if os.strerror(errno.EXDEV) in str(reason):
            raise ConfigurationError(
                f"the project folder {folder} is a mount of its own, and cf replaces it as a whole",
                hint="Unmount it; XDG_DATA_HOME moves all data of cf to another disk.",
            ) from error
        raise ConfigurationError(
            f"the project folder {folder} cannot be replaced: {reason}", hint=paths.WAY_OUT
        ) from error
    part.rename(copy)


def put_old_back(folder: Path) -> None:
    """Restore the folder as it was before a run that was killed, if there was one."""
    copy = kept(folder)
    if copy.is_dir():
        _put_back(folder, copy)


def before(folder: Path, *, restored: bool) -> Path:
    """The folder that `cf up` will have; `restored`: after an interrupted run is repaired."""
    return kept(folder) if restored and kept(folder).is_dir() else folder


def forget_old(folder: Path) -> None:
    """Remove the copy of the old project, once the new one has passed its check."""
    shutil.rmtree(kept(folder), ignore_errors=True)


def kept(folder: Path) -> Path:
    """The path of the copy of the old folder, which exists until a run has passed its check."""
    return folder.with_name(f".{folder.name}.before")


def _put_back(folder: Path, copy: Path) -> None:
    """Restore the folder as it was before this run; remove it if there was none."""
    if (copy / KEYS_FILE).is_file() and (folder / KEYS_FILE).is_file():
        # A running engine has this very file mounted: it goes over with its old content.
        writer.replace_mounted(copy / KEYS_FILE, folder / KEYS_FILE)
        (folder / KEYS_FILE).rename(copy / KEYS_FILE)
    shutil.rmtree(folder, ignore_errors=True)
    if copy.is_dir():
        copy.rename(folder)
