"""The settings of this user and folder as `cf up` would read them: all faults, and the ports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

from compreface_cli import resources
from compreface_cli.checks import Finding, OwnedResources, bind, port, ui
from compreface_cli.checks.base import CONFLICT, FETCH, fail, warn
from compreface_cli.checks.machine import WantedPort
from compreface_cli.config import settings
from compreface_cli.config.settings import Settings
from compreface_cli.config.settings_table import TABLE
from compreface_cli.errors import CfError
from compreface_cli.facts import Facts
from compreface_cli.models import store
from compreface_cli.plan.resolve import plan_of

NAME = "settings"
_Part: TypeAlias = Callable[[], Settings]
_OF_PORTS = ("bind", "port", "core_port", "services", "launcher")
_NOWHERE = Path(os.devnull) / "none"  # never there
_WAY_OUT = "Correct it there or take it out; `cf config list` shows what can be set."


def read() -> tuple[Settings, list[Finding]]:
    """What is sound of the settings, and a row for each value that is not."""
    values: dict[str, settings.Value] = {}
    rows: list[Finding] = []
    for part in _parts():
        try:
            found = part()
        except CfError as error:
            rows += refused(error)
            continue
        rows += [warn(NAME, note.removeprefix("warning: ")) for note in found.notes]
        values = {**found.values, **values}
        if part is settings.resolve:
            break
    return Settings(values), [*dict.fromkeys(rows), *_mirror()]


def ports(chosen: Settings) -> tuple[dict[tuple[str, int], WantedPort], list[Finding]]:
    """(address, port) of each port that `cf up` would publish, and what keeps it from a plan."""
    rows: list[Finding] = []
    try:
        plan = plan_of(chosen.get("build"), chosen)
    except CfError as error:
        rows = refused(error)
        given = {key: one for key in _OF_PORTS if (one := chosen.given(key)) is not None}
        bundled = resources.builds_dir() / "embedded.yaml"
        plan = plan_of(str(bundled), Settings(given))
    found: dict[tuple[str, int], WantedPort] = {}
    full = plan.services == "full" and plan.launcher != "process"
    asked = plan.origins.get("port", "default") != "default"
    for flag, address, number in reversed(port.published(plan)):
        if full and flag == "--port":
            # Not asked for, it is in no way: without Docker the engine starts alone.
            wanted = WantedPort("the UI's port", needed=asked)
        elif full and not asked:
            wanted = WantedPort("the engine's port", way_out="--port auto --core-port auto")
        else:
            wanted = WantedPort("the engine's port", way_out=f"{flag} auto")
        found[address, number] = wanted
    if both := port.clash(plan):
        rows.append(fail(port.NAME, CONFLICT, both, "Set another port or core_port."))
    return found, rows


def of_ui(chosen: Settings, facts: Facts) -> tuple[Finding, ...]:
    """Whether the UI can show what the build answers, and who may ask.

    Nothing where no plan can be made.
    """
    try:
        plan = plan_of(chosen.get("build"), chosen)
    except CfError:
        return ()
    return (*ui.check(plan, facts, OwnedResources()), *bind.judge(plan))


def refused(error: CfError) -> list[Finding]:
    """An error as rows: one for each fault of a file."""
    several = error.message.splitlines() if "faults" in error.details else [error.message]
    return [fail(NAME, error.code, one, error.hint or _WAY_OUT) for one in several]


def _parts() -> Iterator[_Part]:
    """All settings as one; where that is refused, each source by itself, the strongest first."""
    yield settings.resolve
    ours = {row.env for row in TABLE}
    others = {name: value for name, value in os.environ.items() if name not in ours}
    file = {name: value for name, value in os.environ.items() if name == "CF_ENV_FILE"}

    def part(environ: Mapping[str, str], project: Path | None, user: Path | None) -> _Part:
        return partial(settings.resolve, environ=environ, project_file=project, user_file=user)

    yield part(others, _NOWHERE, _NOWHERE)
    for name in sorted(ours & os.environ.keys() - file.keys()):
        yield part({name: os.environ[name]}, _NOWHERE, _NOWHERE)
    yield part(file, None, _NOWHERE)
    yield part(file, _NOWHERE, None)


def _mirror() -> Iterator[Finding]:
    mirror = os.environ.get("CF_MODELS_MIRROR", "")
    if fault := store.mirror_fault(mirror):
        yield fail(
            NAME,
            FETCH,
            f"environment CF_MODELS_MIRROR: {fault}",
            "Set it to a folder that exists or to an https:// address, or leave it out.",
        )
