"""What a restored instance runs with: the backup's build and flags, and the settings of here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compreface_cli import plugin_table
from compreface_cli.builds import builds
from compreface_cli.cleanup import CleanUp
from compreface_cli.config import paths
from compreface_cli.config.settings import Settings
from compreface_cli.config.settings_table import BUILD, BY_KEY
from compreface_cli.config.yamlfile import parse_bytes
from compreface_cli.data import backup_file
from compreface_cli.data.backup_source import Backup
from compreface_cli.data.manifest import Manifest
from compreface_cli.errors import CfError, ConfigurationError
from compreface_cli.launchers.compose import DATABASE
from compreface_cli.plan import resolve
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output

# Of the build: what it computes. Where it answers, and which image it has, is decided anew.
_FLAGS = ("detector", "calculator", "plugins", "runtime", "precision", "min_cosine")
_OWN = ("build", "instance", "port", "core_port", "bind", "launcher", "services", "image")


def flags(described: Manifest, name: str) -> dict[str, Any]:
    """The flags with which the instance is planned."""
    rows = {row.key for row in BUILD}
    given = {
        key: value
        for key, value in described.settings.items()
        if key in _FLAGS and key in rows and isinstance(value, str | list | float | int)
    }
    return {**given, "instance": name, "services": "full", "launcher": "compose"}


def plan_of(backup: Backup, chosen: Settings, out: Output) -> Plan:
    """The plan of the backup's build, or of the default one where that is not known here.

    Raises ConfigurationError for settings with a database elsewhere.
    """
    build = backup.manifest.build or _fitting(backup.manifest)
    plan: Plan | None = None
    if build:
        try:
            plan = resolve.plan_of(build, chosen)
        except CfError as error:
            if backup.build is None:
                out.warning(f"the build {build} of the backup cannot be used here: {error.message}")
    own = _own_build(backup) if plan is None else None
    if own is not None:
        plan = resolve.plan_of(own, chosen)
    if plan is None:
        bare = Settings({key: v for key, v in chosen.values.items() if key not in _FLAGS}, ())
        plan = resolve.plan_of(BY_KEY["build"].default, bare)
    if plan.stack["postgres_host"] != DATABASE:
        raise ConfigurationError(
            f"postgres_host is {plan.stack['postgres_host']} ({plan.origins['postgres_host']}), and"
            " a backup is restored into a database of cf's own",
            hint="Leave that setting out for the restore.",
        )
    return plan


def _fitting(described: Manifest) -> str:
    """The first build whose calculator made the backup's faces; "" if none did."""
    made_by = max(described.calculators, key=lambda key: described.calculators[key], default="")
    for build in builds.listed():
        calculator = build.data.get("calculator")
        if isinstance(calculator, str) and plugin_table.same_calculator(calculator, made_by):
            return build.name
    return ""


def keep_build(backup: Backup, undo: CleanUp) -> Path | None:
    """Keep the backup's own build with the user's builds, unless its name is known here."""
    own = _own_build(backup)
    if own is None or own.name in builds.names() or backup.build is None or own.path.exists():
        return None
    path = own.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        undo.push(f"the build {own.name}", lambda: path.unlink(missing_ok=True))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "wb") as stream:
            stream.write(backup.build)
    except OSError as error:
        raise backup_file.failed(error, path) from error
    return path


def _own_build(backup: Backup) -> builds.BuildFile | None:
    """The build file in the backup, if there is one and it is valid."""
    if backup.build is None:
        return None
    try:
        spec = builds.checked(parse_bytes(backup.build, f"{backup.name}: build.yaml"))
    except CfError:
        return None
    return builds.BuildFile(spec, "user", paths.user_builds() / f"{spec.name}.yaml")


def differing(described: Manifest, plan: Plan) -> Sequence[str]:
    """The settings of the backup's instance that are others here, as variables: NAME=VALUE."""
    lines = []
    for key, value in described.settings.items():
        row = BY_KEY.get(key)
        if row is None or row.secret or key in _OWN:
            continue
        here = getattr(plan, key, None)
        here = plan.stack.get(key, plan.engine_limits.get(row.env)) if here is None else here
        if _text(here) != _text(value):
            lines.append(f"{row.env}={_text(value)}")
    return lines


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
