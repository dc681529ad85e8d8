"""Checks the settings that `cf up` would read here: reports all faults, and the ports it needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

from compreface_cli import resources
from compreface_cli.checks import Finding, OwnedResources, apis, bind, files, port, ui
from compreface_cli.checks.base import CONFIGURATION, CONFLICT, fail, warn
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
_WAY_OUT = "Correct or remove it there; `cf config list` shows what can be set."


def read() -> tuple[Settings, list[Finding]]:
    """The valid settings, and a row for each invalid one."""
    values: dict[str, settings.Value] = {}
    rows: list[Finding] = []
    for part in _parts():
        try:
            read_settings = part()
        except CfError as error:
            rows += refused(error)
            continue
        rows += [
            warn(
                NAME,
                note.removeprefix("warning: "),
                topic=files.NOTE,
            )
            for note in read_settings.notes
        ]
        values = {**read_settings.values, **values}
        if part is settings.resolve:
            break
    return Settings(values), [*dict.fromkeys(rows), *_mirror()]


def ports(chosen: Settings) -> tuple[dict[tuple[str, int], WantedPort], list[Finding]]:
    """The ports that `cf up` would publish, by (address, port), and rows of conflicts."""
    rows: list[Finding] = []
    try:
        plan = plan_of(chosen.get("build"), chosen)
    except CfError as error:
        rows = refused(error)
        given = {key: value for key in _OF_PORTS if (value := chosen.given(key)) is not None}
        bundled = resources.builds_dir() / "embedded.yaml"
        plan = plan_of(str(bundled), Settings(given))
    wanted_ports: dict[tuple[str, int], WantedPort] = {}
    full = plan.services == "full" and plan.launcher != "process"
    asked = plan.origins.get("port", "default") != "default"
    for flag, address, number in reversed(port.published(plan)):
        if full and flag == "--port":
            # A default port in use prevents nothing: without Docker, the engine starts alone.
            wanted = WantedPort("the UI's port", needed=asked)
        elif full and not asked:
            wanted = WantedPort("the engine's port", way_out="--port auto --core-port auto")
        else:
            wanted = WantedPort("the engine's port", way_out=f"{flag} auto")
        wanted_ports[address, number] = wanted
    if both := port.clash(plan):
        rows.append(
            fail(
                port.NAME,
                CONFLICT,
                both,
                "Set another port or core_port.",
                topic=port.EQUAL,
            )
        )
    return wanted_ports, rows


def of_ui(chosen: Settings, facts: Facts) -> tuple[Finding, ...]:
    """Rows on whether the UI can show the build's results, and who can reach its ports.

    Empty if the settings give no plan.
    """
    try:
        plan = plan_of(chosen.get("build"), chosen)
    except CfError:
        return ()
    return (*ui.check(plan, facts, OwnedResources()), *bind.judge(plan), *apis.judge(plan))


def refused(error: CfError) -> list[Finding]:
    """The rows of an error: one for each fault of a file."""
    messages = error.message.splitlines() if "faults" in error.details else [error.message]
    return [
        fail(
            NAME,
            error.code,
            message,
            error.hint or _WAY_OUT,
            topic=error.topic or files.SETTINGS,
        )
        for message in messages
    ]


def _parts() -> Iterator[_Part]:
    """Readers of all settings together, and then of each source alone, the strongest first."""
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
    from compreface_cli.models.registry import mirrors  # late, for the start of `cf doctor`

    mirror = os.environ.get("CF_MODELS_MIRROR", "")
    if fault := store.mirror_fault(mirror):
        yield fail(
            NAME,
            CONFIGURATION,
            f"environment CF_MODELS_MIRROR: {fault}",
            "Set it to a folder that exists or to an https:// address, or leave it out.",
            topic=files.SETTINGS,
        )
    if fault := mirrors.mirror_fault(os.environ.get(mirrors.VARIABLE, "")):
        yield fail(
            NAME,
            CONFIGURATION,
            f"environment {mirrors.VARIABLE}: {fault}",
            "Set it to the address of a mirror of Docker Hub, or leave it out.",
            topic=files.SETTINGS,
        )
