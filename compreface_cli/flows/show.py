"""A build as its file has it, or as the plan that would run, with who set what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compreface_cli import builds, settings
from compreface_cli import plan as plans
from compreface_cli.builds import BuildFile
from compreface_cli.flows import reach
from compreface_cli.plan import Plan


@dataclass(frozen=True, slots=True)
class Checked:
    """A build file without a fault, and what of it does not run in this version."""

    build: BuildFile
    plan: Plan
    notes: tuple[str, ...]


def shown(name: str | None) -> BuildFile:
    """The build of that name, else the one that the settings choose."""
    return builds.load(name or settings.resolve().get("build"))


def resolved(flags: Mapping[str, Any]) -> tuple[Plan, tuple[str, ...]]:
    """The plan for these flags, and what is said once about settings without effect."""
    chosen = settings.resolve(flags)
    return plans.resolve(builds.load(chosen.get("build")), chosen), chosen.notes


def checked(path: Path) -> Checked:
    """Check a file as `cf up` would, without the settings of this user or folder."""
    build = builds.load(path if path.is_absolute() else Path.cwd() / path)
    plan = plans.resolve(build, settings.Settings())
    notes = []
    if build.name != path.stem:
        notes.append(
            f"the build is called {build.name!r}: in a folder of builds its file must be "
            f"{build.name}.yaml"
        )
    notes += [f"{one.message}. {one.hint}" for one in reach.out_of_reach(plan)]
    return Checked(build, plan, tuple(notes))
