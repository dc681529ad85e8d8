"""What an instance keeps in its record of the install of upstream's that it has adopted."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias

from compreface_cli.instance.records import Record

# comparing, switching: `cf adopt` works on it, or was cut off, before it touched any of upstream's
# containers and since then; releasing: the same of `cf release`
State: TypeAlias = Literal["comparing", "switching", "adopted", "releasing"]


@dataclass(frozen=True, slots=True)
class Aside:
    """A container of upstream's as it was: `policy` is its restart policy ("always")."""

    service: str
    container: str  # id
    name: str
    policy: str
    ran: bool


@dataclass(frozen=True, slots=True)
class Adopted:
    """The install, as it was before; `settings` are those of the instance, without passwords."""

    project: str
    folder: str  # that its containers were started from; "" if that is not known
    moved_to: str  # where that folder is now, if it was renamed; else ""
    volume: str
    build: str
    calculator: str  # of its engine
    state: State
    stopping: bool = False  # its containers may be in the middle of a stop
    services: tuple[Aside, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def half(self) -> bool:
        """Whether a run of `cf adopt` or `cf release` works on it, or was cut off."""
        return self.state != "adopted"

    @property
    def from_words(self) -> str:
        return self.moved_to or self.folder or f"the Compose project {self.project}"

    @property
    def argument(self) -> str:
        """How `cf adopt` is told which install it is."""
        return self.moved_to or self.folder or self.project

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def of(record: Record | None) -> Adopted | None:
    """What the instance has adopted; None for an instance of cf's own."""
    if record is None or not record.adopted:
        return None
    known = {item.name for item in fields(Adopted)}
    document = {key: value for key, value in record.adopted.items() if key in known}
    services = tuple(Aside(**each) for each in document.pop("services", ()))
    return Adopted(**document, services=services)


def half(record: Record | None) -> bool:
    """Whether the instance's adoption or release was cut off, or is under way."""
    adopted = of(record)
    return adopted is not None and adopted.half


def cut_off_command(record: Record) -> str:
    """The command that was cut off, which also puts it right."""
    adopted = of(record)
    assert adopted is not None  # noqa: S101 - of half
    if adopted.state == "releasing":
        return f"cf release {record.name}"
    return f"cf adopt {shlex.quote(adopted.argument)}"


def ways_on(record: Record) -> str:
    """What to do about it, beside running that command again; "" if there is nothing else."""
    adopted = of(record)
    if adopted is None or adopted.state == "releasing":
        return ""
    return f", or give back what was there: `cf release {record.name}`"


def cut_off_words(record: Record) -> str:
    """That it was cut off, with the commands that put it right."""
    return f"`{cut_off_command(record)}` was cut off; run it again{ways_on(record)}"
