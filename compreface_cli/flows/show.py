"""A build as its file has it, or as the plan that would run, with who set what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compreface_cli import builds, settings
from compreface_cli import plan as plans
from compreface_cli.builds import BuildFile
from compreface_cli.flows import reach, running
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


def runtimes(build: str) -> dict[str, Mapping[str, Any]]:
    """What the engines of this build's running instances say of their networks, by instance."""
    records, _ = running.instances().all()
    wanted = [one for one in records if one.build == build and one.phase == "running"]
    said = {one.name: running.runtimes(one) for one in wanted if one.deployment}
    return {name: found for name, found in said.items() if found}


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
    # Whether a file of the build's own lies beside it is no matter of the build file.
    theirs = replace(plan, models=tuple(model for model in plan.models if not model.beside))
    notes += [f"{one.message}. {one.hint}" for one in reach.out_of_reach(theirs)]
    return Checked(build, plan, tuple(notes))
