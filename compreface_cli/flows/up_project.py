"""The Compose side of `cf up`: the project folder, the way back to the old one, and the image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from compreface_cli import paths
from compreface_cli.errors import FetchError
from compreface_cli.flows.build import build_image
from compreface_cli.launch import image as images
from compreface_cli.launch.base import CleanUp
from compreface_cli.output import Output
from compreface_cli.plan import Plan


def write(plan: Plan, models: Mapping[str, Path], undo: CleanUp) -> Path:
    """Write the project of a settled plan; a run that fails later has the old folder back."""
    from compreface_cli import project, render

    folder = paths.project_dir(plan.instance)
    before = kept(folder)
    rendered = render.render(plan, models)
    put_old_back(folder)
    undo.push("the project folder", lambda: _undo(folder, before, undo))
    if folder.is_dir():
        # Links are enough: a file is never written in place, always replaced.
        part = before.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part, copy_function=os.link, symlinks=True)
        part.rename(before)
    project.write(rendered, folder)
    return folder


def put_old_back(folder: Path) -> None:
    """The folder as it was before a run that was killed; nothing to do after any other."""
    before = kept(folder)
    if before.is_dir():
        _put_back(folder, before)


def forget_old(plan: Plan) -> None:
    """The new project has proven itself: what only the old one needed goes."""
    images.drop_superseded(plan.build)
    shutil.rmtree(kept(paths.project_dir(plan.instance)), ignore_errors=True)


def image(plan: Plan, folder: Path, build: bool | None, undo: CleanUp, out: Output) -> str:
    """The id of the image to start: None builds what is not there yet, True always, False never."""
    named = plan.origins.get("image", "default") != "default"
    if build is False or (build is None and named):
        found = images.find(plan.image)
        if found is not None:
            return found.id
        if build is False:
            raise FetchError(
                f"the image {plan.image} is not here, and --no-build forbids to build it",
                hint=f"Build it first: cf build {plan.build}",
            )
    return build_image(plan, folder, report=out.note, undo=undo, force=build is True).id


def kept(folder: Path) -> Path:
    """Where the folder as it was before a run stands, until that run has proven itself."""
    return folder.with_name(f".{folder.name}.before")


def _undo(folder: Path, before: Path, undo: CleanUp) -> None:
    """Left to the next run where something else is left: a volume has the password in `.env`."""
    if not undo.failures:
        _put_back(folder, before)


def _put_back(folder: Path, before: Path) -> None:
    """The folder as it was before this run; gone if there was none."""
    shutil.rmtree(folder, ignore_errors=True)
    if before.is_dir():
        before.rename(folder)
