"""The known messages in the logs of the five services, and why a service does not keep running."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from compreface_cli.checks import cpu, log_engine, log_java, log_nginx, log_postgres
from compreface_cli.checks.log_row import CRASHED, KILLED, OUT_OF_MEMORY, Row
from compreface_cli.errors import CfError, UnhealthyError
from compreface_cli.topics import Topic

_OF: Mapping[str, Sequence[Row]] = {
    "core": log_engine.ROWS,
    "admin": log_java.ROWS,
    "api": log_java.ROWS,
    "fe": log_nginx.ROWS,
    "postgres": log_postgres.ROWS,
}
SERVICES = tuple(_OF)
_KILLED = 137
_ENDS: Mapping[int, tuple[Topic, str]] = {
    132: (cpu.LACKS, "this CPU lacks an instruction"),
    137: (OUT_OF_MEMORY, "it was killed, mostly for want of memory"),
    139: (CRASHED, "it crashed (a segmentation fault)"),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a service does not keep running: a clause, and `line` of its log that says so, if any."""

    topic: Topic
    says: str
    line: str = ""
    error: type[CfError] = UnhealthyError


def known(service: str, text: str) -> Row | None:
    """The first row of the service that matches a line, or several; None: nothing is known."""
    for row in _OF.get(service, ()):
        if service in row.services and re.search(row.pattern, text, re.IGNORECASE | re.MULTILINE):
            return row
    return None


def reason(
    service: str, lines: Iterable[str], *, exit_code: int = 0, out_of_memory: bool = False
) -> Reason | None:
    """Why a service ended or does not become ready; None when nothing says so.

    `lines`: the last ones of its log, in order. `out_of_memory`: the kernel says that it killed it
    for that. The kernel's word counts most, then the latest line that ends a service, then the exit
    code, which alone only hints at a cause.
    """
    if out_of_memory:
        return Reason(OUT_OF_MEMORY, "it was killed at its memory limit")
    for line in reversed(list(lines)):
        row = known(service, line)
        if row is not None and row.fatal:
            return Reason(row.topic, row.says, line.strip(), row.error)
    if exit_code == _KILLED and service != "core":  # only the engine has a limit of its own
        return Reason(KILLED, "it was killed")
    if exit_code in _ENDS:
        topic, says = _ENDS[exit_code]
        return Reason(topic, says)
    return None


@dataclass(frozen=True, slots=True)
class Note:
    """What a line of a log means: `says`, a clause, and the next step."""

    topic: Topic
    service: str
    says: str
    next_step: str

    @property
    def text(self) -> str:
        """All of it in one line."""
        return f"{self.service}: {self.says}. {self.next_step} [{self.topic.id}]"

    def as_dict(self) -> dict[str, str]:
        return {
            "id": self.topic.id,
            "service": self.service,
            "says": self.says,
            "next": self.next_step,
        }


class Notes:
    """Explains each known message once, however often it is repeated, by service."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._given: set[tuple[str, str]] = set()

    def on(self, service: str, line: str) -> Note | None:
        """The likely cause of this line and the next step; None when there is nothing to add."""
        row = known(service, line)
        if row is None or (service, row.topic.id) in self._given:
            return None
        self._given.add((service, row.topic.id))
        next_step = row.topic.ways[0].replace("INSTANCE", self._instance)
        return Note(row.topic, service, row.says, next_step)
