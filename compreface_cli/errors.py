"""The errors a user can meet, and the exit code of each.

CfError                1   failed; the root of all errors that `cf` reports
├── OutputError        1   stdout cannot be written
├── UsageError         2   a flag or an argument does not fit
├── ConfigurationError 3   an unknown build, a bad build file, project file or setting
├── ConflictError      4   a port, a name, a volume or a hand-edited file is in the way
├── DataRefusedError   5   the data of this instance belong to another calculator
├── DockerError        6   Docker is missing, too old or out of reach
├── HardwareError      7   CPU flags, GPU, driver
├── UnhealthyError     8   not ready in time, crashed, or answered wrongly
├── FetchError         9   a download, a missing model or a hash
│   └── UnreachableError 9 no source delivers a file: the network, a registry, no address
├── PreflightError    3-9  findings before anything was created; the smallest code of them
└── InterruptedByUser 130  Ctrl-C or SIGTERM

Interruption carries a signal to main(). It is not a CfError, so that no error handler catches it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compreface_cli.topics import Topic


class CfError(Exception):
    """What went wrong (`message`), what to do next (`hint`), and machine-readable `details`.

    `topic`: what `cf explain` says of it.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        details: Mapping[str, Any] | None = None,
        topic: Topic | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details or {})
        self.topic = topic

    @property
    def code(self) -> int:
        return self.exit_code

    @property
    def topics(self) -> Sequence[Topic]:
        """All that `cf explain` says of it, the first one first."""
        return (self.topic,) if self.topic else ()

    def as_dict(self) -> dict[str, Any]:
        """The error of a `--json` document."""
        return {
            "type": type(self).__name__,
            "id": self.topic.id if self.topic else "",
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.code,
            **({"details": self.details} if self.details else {}),
        }


class OutputError(CfError):
    pass


class UsageError(CfError):
    exit_code = 2


class ConfigurationError(CfError):
    exit_code = 3


class ConflictError(CfError):
    exit_code = 4


class DataRefusedError(CfError):
    exit_code = 5


class DockerError(CfError):
    exit_code = 6


class HardwareError(CfError):
    exit_code = 7


class UnhealthyError(CfError):
    exit_code = 8


class FetchError(CfError):
    exit_code = 9


class UnreachableError(FetchError):
    """A file that no source delivers, as opposed to one that is wrong or must be accepted first."""


class InterruptedByUser(CfError):
    exit_code = 130


class Interruption(BaseException):
    """A signal, raised by its handler and so at any line of the program.

    Not an Exception: a library's `except Exception` must not catch it (in `threading.Thread.start`
    that would lose a running thread). `outcome` says what became of the run's work.
    """

    outcome = ""


class PreflightError(CfError):
    """All failed checks of a run, which has created nothing yet."""

    def __init__(
        self, message: str, *, codes: tuple[int, ...], topics: Sequence[Topic] = (), **rest: Any
    ) -> None:
        super().__init__(message, topic=topics[0] if topics else None, **rest)
        self._topics = tuple(topics)
        self._code = min(codes, default=1)

    @property
    def code(self) -> int:
        return self._code

    @property
    def topics(self) -> Sequence[Topic]:
        return self._topics
