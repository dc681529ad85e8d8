"""Messages whose wording is kept in `messages/`; `python -m tests.golden.messages` rewrites them.

A case is a function of an empty folder that raises the error, or returns the text or the findings,
that a user sees. It runs in that folder, with this user's folders of `cf` below it and no Docker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias
from unittest import mock

from compreface_cli.checks.base import Finding
from compreface_cli.errors import CfError
from tests.golden import (
    adopt_messages,
    backup_messages,
    builds_messages,
    checks_messages,
    convert_messages,
    database_messages,
    docker_messages,
    engine_messages,
    existing_data_messages,
    fetching_messages,
    instances_messages,
    kubernetes_messages,
    migrate_messages,
    models_messages,
    photos_messages,
    registry_messages,
    sharing_messages,
    sources_messages,
    swarm_messages,
    upkeep_messages,
    weights_messages,
)

_FAULTS = (AssertionError, AttributeError, KeyError, NameError, TypeError)
FOLDER = Path(__file__).parent / "messages"
_VARIES: Final = {
    r"on \d{4}-\d\d-\d\d; the file": "on DATE; the file",
    r"127\.0\.0\.1:[3-6]\d{4}": "127.0.0.1:PORT",  # of a server of the case's own
    r"at 0x[0-9a-f]+": "at 0x",  # of a Python object
    r"since 20\d\d-[-0-9T:+.]+": "since THEN",
    r"  \(\d+(\.\d)? (kB|bytes)(?=[,)])": "  (N kB",  # on the disk
    r"(compreface-core:[a-z-]+)-[0-9a-f]{8}": r"\1-HASH",  # it has this version in it
}

Case: TypeAlias = Callable[[Path], object]

SOURCES: Final[Mapping[str, Mapping[str, Case]]] = {
    "engine": engine_messages.CASES,
    "swarm": swarm_messages.CASES,
    "convert": convert_messages.CASES,
    "builds": builds_messages.CASES,
    "checks": checks_messages.CASES,
    "models": models_messages.CASES,
    "fetching": fetching_messages.CASES,
    "registry": registry_messages.CASES,
    "database": database_messages.CASES,
    "docker": docker_messages.CASES,
    "existing_data": existing_data_messages.CASES,
    "instances": instances_messages.CASES,
    "kubernetes": kubernetes_messages.CASES,
    "adopt": adopt_messages.CASES,
    "photos": photos_messages.CASES,
    "sharing": sharing_messages.CASES,
    "weights": weights_messages.CASES,
    "sources": sources_messages.CASES,
    "backup": backup_messages.CASES,
    "upkeep": upkeep_messages.CASES,
    "migrate": migrate_messages.CASES,
}
"""The cases of each golden file, by its name without `.txt`."""


def text(said: object) -> str:
    """What was raised or returned, as the golden file has it: its kind and exit code first."""
    if isinstance(said, CfError):
        ids = "".join(f" [{topic.id}]" for topic in said.topics)
        head = f"{type(said).__name__}, exit code {said.code}{ids}"
        return _with_hint(head, said.message, said.hint)
    if isinstance(said, Finding):
        code = f", exit code {said.code}" if said.code else ""
        id_ = f" [{said.id}]" if said.topic else ""
        return _with_hint(f"{said.check}: {said.level}{code}{id_}", said.message, said.hint)
    if isinstance(said, list | tuple):
        return "\n".join(text(row) for row in said)
    return str(said)


def _with_hint(head: str, message: str, hint: str | None) -> str:
    return "\n".join([head, message, *([f"hint: {hint}"] if hint else [])])


def message(case: Case) -> str:
    """What the case says, with the same words for its folder, port and process in each run."""
    with tempfile.TemporaryDirectory() as folder, _user(Path(folder)):
        try:
            said = text(case(Path(folder)))
        except _FAULTS:  # of the case itself
            raise
        except Exception as error:
            said = text(error)
        said = said.replace(folder, "FOLDER").replace(f"pid {os.getpid()}", "pid PID")
        for pattern, word in _VARIES.items():
            said = re.sub(pattern, word, said)
        return said


@contextlib.contextmanager
def _user(folder: Path) -> Iterator[None]:
    """A user whose `cf` has empty folders, no settings and no Docker."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("CF_")}
    for name in ("data", "state", "config", "cache"):
        variables[f"XDG_{name.upper()}_HOME"] = str(folder / name)
    variables |= {"HOME": str(folder), "DOCKER_HOST": f"unix://{folder}/docker.sock"}
    variables |= {"PATH": f"{folder}/bin", "NO_COLOR": "1"}
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, variables, clear=True),
        mock.patch.object(sys, "argv", ["cf", "up"]),
    ):
        yield


def written(source: str) -> str:
    """The whole golden file: each case's name, and its message indented below."""
    return "\n".join(
        f"{name}\n{textwrap.indent(message(case), '    ')}\n"
        for name, case in SOURCES[source].items()
    )


def refresh() -> None:
    """Writes all golden files anew."""
    FOLDER.mkdir(exist_ok=True)
    for source in SOURCES:
        (FOLDER / f"{source}.txt").write_text(written(source), "utf-8")


if __name__ == "__main__":
    logging.disable()  # of the failures that are provoked
    refresh()
