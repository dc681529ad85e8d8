"""`cf data backup --schedule`: a line for cron, or a service and a timer for systemd."""

from __future__ import annotations

import getpass
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["cron", "systemd"]
# What `cf` and `docker` read; a scheduler starts a program with little else than a home folder.
_PASSED_ON = (
    *("PATH", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"),
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"),
)
_SERVICE = """\
[Unit]
Description=Backup of the CompreFace data of {name}
After=docker.service

[Service]
Type=oneshot
User={user}
{environment}ExecStart={command}
"""
_TIMER = """\
[Unit]
Description=Nightly backup of the CompreFace data of {name}

[Timer]
OnCalendar=*-*-* 03:17:00
RandomizedDelaySec=10min
Persistent=true

[Install]
WantedBy=timers.target
"""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is to be installed: files by path (none for cron), a line, and the commands after."""

    line: str
    files: Mapping[str, str]
    commands: Sequence[str]


def schedule(kind: Kind, name: str, flags: Sequence[str]) -> Schedule:
    """A nightly `cf data backup NAME FLAGS` for this user and this environment."""
    words = [*_program(), "data", "backup", name, *flags, "--quiet"]
    environment = {key: os.environ[key] for key in _PASSED_ON if os.environ.get(key)}
    if kind == "cron":
        given = [f"{key}={value}" for key, value in environment.items()]
        # cron ends a command at a percent sign that is not escaped.
        line = shlex.join(["env", *given, *words]).replace("%", r"\%")
        return Schedule(f"17 3 * * * {line}", {}, ("crontab -e",))
    unit = f"cf-backup-{name}"
    values = "".join(
        f"Environment={_quoted(f'{key}={value}')}\n"
        for key, value in {"HOME": str(Path.home()), **environment}.items()
    )
    files = {
        f"/etc/systemd/system/{unit}.service": _SERVICE.format(
            name=name,
            user=getpass.getuser(),
            environment=values,
            command=" ".join(_quoted(word).replace("$", "$$") for word in words),
        ),
        f"/etc/systemd/system/{unit}.timer": _TIMER.format(name=name),
    }
    commands = ("systemctl daemon-reload", f"systemctl enable --now {unit}.timer")
    return Schedule("", files, commands)


def _program() -> list[str]:
    """The words that start this `cf` from anywhere."""
    started = Path(sys.argv[0])
    if started.name == "cf" and started.is_file():
        return [str(started.absolute())]
    return [sys.executable, "-m", "compreface_cli.cli"]


def _quoted(word: str) -> str:
    """A word in a unit file: quoted, with its specifiers taken literally."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'
