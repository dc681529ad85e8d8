"""The types that all checks share: a finding, and the resources that the instance owns."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal

from compreface_cli.docker.containers import Container
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

Level = Literal["ok", "warn", "fail"]

CONFIGURATION = 3
CONFLICT = 4
DATA = 5
DOCKER = 6
HARDWARE = 7
FETCH = 9


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check: `message` names the resource and its holder, `hint` the remedy.

    `code`: the exit code of a fail, else 0. `topic`: for `cf explain`; None when all is well.
    """

    check: str
    level: Level
    message: str
    hint: str = ""
    code: int = 0
    topic: Topic | None = None

    @property
    def id(self) -> str:
        """The stable ID of what is wrong; "" when all is well."""
        return self.topic.id if self.topic else ""

    @property
    def tagged(self) -> str:
        """The message with its ID behind it: `port 8000 is held by x [port-taken]`."""
        return f"{self.message} [{self.id}]" if self.topic else self.message

    def as_dict(self) -> dict[str, str | int]:
        return {
            "id": self.id,
            "check": self.check,
            "level": self.level,
            "message": self.message,
            "hint": self.hint,
            "exit_code": self.code,
        }


@dataclass(frozen=True, slots=True)
class OtherInstance:
    """Another running instance of this user: its ports, and its processes or project folder."""

    name: str
    ports: frozenset[int]
    pids: frozenset[int] = frozenset()
    folder: str | None = None
    database: str = ""  # the address of the one elsewhere that it works on


@dataclass(frozen=True, slots=True)
class OwnedResources:
    """What the instance owns already, so that its own resources are not reported as conflicts.

    `stack`: whether the instance is a stack of Docker Swarm;
    `folder`: the project folder in its record, None when this user has no such Compose instance;
    `pids`: its supervisor and engine when it runs as a process;
    `calculator`: the one whose embeddings are in its database by its record, "" without a record;
    `postgres_image`: that of the database by its record, "" without one;
    `others`: the other running instances of this user; `may_build` is False with `--no-build`,
    `must_build` True with `--build`; `giving_way`: ids of containers that stop before the start;
    `bind_mounts`: those of the user's own file that have no label for SELinux.
    `database`: the address of the one elsewhere that it works on now.
    """

    folder: str | None = None
    pids: frozenset[int] = frozenset()
    calculator: str = ""
    postgres_image: str = ""
    others: tuple[OtherInstance, ...] = ()
    may_build: bool = True
    must_build: bool = False
    giving_way: frozenset[str] = frozenset()
    bind_mounts: tuple[str, ...] = ()
    stack: bool = False
    database: str = ""

    def has(self, container: Container, plan: Plan) -> bool:
        """Whether the container is this instance's (project and folder are), or gives way to it."""
        own = container.project == plan.project and _from(container, self.folder)
        own = own or (self.stack and container.stack == plan.project)
        return own or container.id in self.giving_way

    def other_instance_of(self, container: Container) -> OtherInstance | None:
        """The other instance of this user that the container belongs to, if any."""
        for other in self.others:
            if container.project == f"cf-{other.name}" and _from(container, other.folder):
                return other
        return None


def _from(container: Container, folder: str | None) -> bool:
    return (
        folder is not None
        and container.folder is not None
        and os.path.normpath(container.folder) == os.path.normpath(folder)
    )


def fail(check: str, code: int, message: str, hint: str, *, topic: Topic) -> Finding:
    return Finding(check, "fail", message, hint, code, topic)


def warn(check: str, message: str, hint: str = "", *, topic: Topic) -> Finding:
    return Finding(check, "warn", message, hint, topic=topic)


def ok(check: str, message: str) -> Finding:
    return Finding(check, "ok", message)


def as_warning(row: Finding) -> Finding:
    """The finding with a fail turned into a warning, for where it does not prevent a start."""
    return replace(row, level="warn", code=0) if row.level == "fail" else row


def size(number: int) -> str:
    """A number of bytes as text: `1.5 GB`, `300 MB`, `7.3 MB` (powers of ten, as Docker's)."""
    if number < 1e6:
        return f"{number / 1e3:.0f} kB"
    if number >= 1e9:
        return f"{number / 1e9:.1f} GB"
    return f"{number / 1e6:.{0 if number >= 9.95e6 else 1}f} MB"


def described(container: Container) -> str:
    """A container with its Compose project and its state, for a message."""
    project = f" of the Compose project {container.project}" if container.project else ""
    return f"the container {container.name}{project} ({container.state})"
