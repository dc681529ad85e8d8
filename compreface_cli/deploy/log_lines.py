"""The lines of an instance's log: since when, of which service, and what the known ones mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from compreface_cli.checks.log_messages import Note, Notes
from compreface_cli.docker.containers import short
from compreface_cli.errors import UsageError

# Compose writes the name of the container without that of the project: "compreface-api-1  | "; on
# Swarm the node stands behind it: "compreface-api-1@node  | ".
_PREFIX = re.compile(r"(?P<service>[a-z][a-z0-9_-]*?)-\d+(?:@\S+)? +\| ?(?P<text>.*)")
_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def since(text: str, now: datetime | None = None) -> datetime:
    """The time that `text` names: `90s`, `10m`, `2h` or `3d` before now, or ISO 8601 (in UTC).

    Raises UsageError for anything else.
    """
    present = now or datetime.now(UTC)
    try:
        if (ago := _AGO.fullmatch(text.strip())) is not None:
            return present - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        named = datetime.fromisoformat(text.strip())
        return named if named.tzinfo else named.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--since {text}: this is no time",
            hint="Examples: --since 10m, --since 2h, --since 2026-12-31T09:30:00Z",
        ) from None


def of_service(line: str, service: str = "core") -> tuple[str, str]:
    """The short name of the service that wrote a line, and its text without Compose's prefix.

    A line without a prefix is of `service`.
    """
    match = _PREFIX.fullmatch(line)
    return (short(match["service"]), match["text"]) if match else (service, line)


def explained(
    lines: Iterable[str], instance: str, service: str | None
) -> Iterator[tuple[str, Note | None]]:
    """Each line, with what it means and the next step if it is known and was not explained yet."""
    notes = Notes(instance)
    for line in lines:
        yield line, notes.on(*of_service(line, service or "core"))
