"""The plan for flags and settings, or for a build alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compreface_cli.builds import builds
from compreface_cli.builds.builds import BuildFile
from compreface_cli.config import settings
from compreface_cli.config.settings import Settings
from compreface_cli.plan import plan
from compreface_cli.plan.plan import Plan

_NOTHING = Settings()


def asked_for(flags: Mapping[str, Any]) -> tuple[Plan, Settings]:
    """The plan for these flags and the settings that hold here, and those settings with notes.

    Raises ConfigurationError for an unknown build, a file at fault, and what does not fit together.
    """
    chosen = settings.resolve(flags)
    return plan_of(chosen.get("build"), chosen), chosen


def plan_of(build: str | BuildFile, chosen: Settings = _NOTHING) -> Plan:
    """The plan of a build under these settings; without them, as its file alone has it.

    `build`: one that was loaded, its name, or the path of its file. Raises as `asked_for` does.
    """
    loaded = build if isinstance(build, BuildFile) else builds.load(build)
    return plan.resolve(loaded, chosen)
