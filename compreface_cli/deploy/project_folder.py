"""The Compose side of `cf up`: the project folder, the way back to the old one, and the image."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from compreface_cli.checks import raise_for
from compreface_cli.checks.image import misfit
from compreface_cli.cleanup import CleanUp
from compreface_cli.config import paths
from compreface_cli.deploy.build import build_image, shown
from compreface_cli.docker import image as images
from compreface_cli.errors import ConfigurationError, FetchError
from compreface_cli.launchers import compose_project
from compreface_cli.plan.plan import Plan
from compreface_cli.project.writer import OVERRIDE
from compreface_cli.terminal.output import Output


def write(plan: Plan, models: Mapping[str, Path], undo: CleanUp) -> Path:
    """Write the project of a settled plan; a run that fails later has the old folder back."""
    from compreface_cli.project import render, writer

    folder = paths.project_dir(plan.instance)
    before = kept(folder)
    rendered = render.render(plan, models)
    put_old_back(folder)
    was_there = folder.is_dir()

    def undone() -> None:
        # Left to the next run where something else is left: a volume has its password in `.env`.
        if not undo.failures and (before.is_dir() or not was_there):  # else nothing was changed yet
            _put_back(folder, before)

    undo.push("the project folder", undone)
    if was_there:
        _keep(folder, before)
    writer.write(rendered, folder)
    return folder


def refuse_broken(plan: Plan) -> None:
    """Raises ConfigurationError when Compose cannot read the user's own file beside the project."""
    folder = paths.project_dir(plan.instance)
    command = compose_project.command(plan.project, folder)
    # Before the first start it stands there alone: then Compose reads it with the new project.
    if f"--file={folder / OVERRIDE}" in command:
        compose_project.read(command, "--quiet")


def _keep(folder: Path, kept: Path) -> None:
    """A copy of the folder, which the undo puts in its place. Raises ConfigurationError."""
    part = kept.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        # Links are enough: a file is never written in place, always replaced.
        shutil.copytree(folder, part, copy_function=os.link, symlinks=True)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        words = error.strerror
        if isinstance(error, shutil.Error):  # which has all that failed, with the system's words
            words = str(error.args[0][0][2])
        if os.strerror(errno.EXDEV) in str(words):
            raise ConfigurationError(
                f"the project folder {folder} is a mount of its own, and cf replaces it as a whole",
                hint="Unmount it; XDG_DATA_HOME moves all data of cf to another disk.",
            ) from error
        raise ConfigurationError(
            f"the project folder {folder} cannot be replaced: {words}", hint=paths.WAY_OUT
        ) from error
    part.rename(kept)


def put_old_back(folder: Path) -> None:
    """The folder as it was before a run that was killed; nothing to do after any other."""
    before = kept(folder)
    if before.is_dir():
        _put_back(folder, before)


def forget_old(plan: Plan) -> None:
    """The new project has proven itself: what only the old one needed goes."""
    images.drop_superseded(plan.build)
    shutil.rmtree(kept(paths.project_dir(plan.instance)), ignore_errors=True)


def image(
    plan: Plan,
    folder: Path,
    build: bool | None,
    undo: CleanUp,
    out: Output,
    *,
    pull: bool = False,
) -> str:
    """The id of the image to start: None builds what is not there yet, True always, False never.

    `pull` asks the registries for newer ones of all images, of the base where this builds.
    """

    def obtain(name: str) -> images.Image:
        return images.obtain(name, report=out.note, waiting=shown(out), pull=pull)

    if pull:
        for name in plan.stack_images.values():
            obtain(name)
    if plan.image_given and (build is None or (build is False and pull)):
        found = obtain(plan.image)
        raise_for([finding for finding in [misfit(plan, found.labels)] if finding])
        return found.id
    if build is False:
        local = images.find(plan.image)
        if local is None:
            raise FetchError(
                f"the image {plan.image} is not here, and --no-build forbids to build it",
                hint="Leave --no-build out, then `cf up` builds it.",
            )
        return local.id
    return build_image(plan, folder, out=out, undo=undo, force=build is True, pull=pull).id


def takes_another_image(plan: Plan, build: bool | None, runs: str) -> bool:
    """Whether `up` would start another image than the one with the id `runs`.

    The name means another one by now, or the image is built anew since its base has moved.
    """
    found = images.find(plan.image)
    if found is None:
        return False
    if found.id != runs:
        return True
    may_build = build is not False and not plan.image_given
    return may_build and images.upon_another(found, plan.base_image)


def kept(folder: Path) -> Path:
    """Where the folder as it was before a run stands, until that run has proven itself."""
    return folder.with_name(f".{folder.name}.before")


def _put_back(folder: Path, before: Path) -> None:
    """The folder as it was before this run; gone if there was none."""
    shutil.rmtree(folder, ignore_errors=True)
    if before.is_dir():
        before.rename(folder)
