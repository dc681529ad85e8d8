"""Open connections: fewer than the files that the process may open, and who goes for a new one."""

from __future__ import annotations

import os
from typing import Final, Protocol

MOST_CONNECTIONS: Final = 1024
MOST_BACKLOG: Final = 1024
_SPARE_FILES: Final = 64
"""Beside what is open already: traces, reads of the cgroup, what a library opens for a moment."""


class Connection(Protocol):
    """What can be closed at once."""

    def drop(self) -> None: ...


class Connections:
    """Keeps at most `limit` open. For a new one another goes: of those that are idle or in the head
    of a request, and those in a body, the larger group gives the one that has been so the longest.

    So whoever opens connections and completes no request takes only its own places, and one that
    asks at once is answered. All methods are for the event loop's thread and take the same time
    for any number.
    """

    def __init__(self, limit: int = MOST_CONNECTIONS) -> None:
        self.limit = limit
        self.dropped = 0
        self._idle: dict[Connection, None] = {}
        self._in_body: dict[Connection, None] = {}
        self._computed: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._idle) + len(self._in_body) + len(self._computed)

    def came(self, one: Connection) -> None:
        """`one` is open. Drops another, or it where all others wait for their answers."""
        if len(self) >= self.limit:
            group = max(self._idle, self._in_body, key=len)
            victim = next(iter(group), one)
            self.left(victim)
            self.dropped += 1
            victim.drop()
            if victim is one:
                return
        self._idle[one] = None

    def idle(self, one: Connection) -> None:
        """From now on `one` is between two requests, or at the first byte of a head."""
        self._move(one, self._idle)

    def in_body(self, one: Connection) -> None:
        """The head has come, and a body follows."""
        self._move(one, self._in_body)

    def computed(self, one: Connection) -> None:
        """The request is completely here."""
        if one in self._idle or one in self._in_body:
            self.left(one)
            self._computed.add(one)

    def left(self, one: Connection) -> None:
        """`one` is closed."""
        self._idle.pop(one, None)
        self._in_body.pop(one, None)
        self._computed.discard(one)

    def _move(self, one: Connection, to: dict[Connection, None]) -> None:
        # Who was dropped says more until it is closed.
        if one in self._idle or one in self._in_body or one in self._computed:
            self.left(one)
            to[one] = None


def room() -> tuple[int, int]:
    """Connections, and how many more may wait to be accepted; both count as open files.

    Raises the process's soft limit of open files where it is less than both need.
    """
    own = _open_files() + _SPARE_FILES
    free = max(2, _file_limit(own + MOST_CONNECTIONS + MOST_BACKLOG) - own)
    connections = min(MOST_CONNECTIONS, free // 2)
    return connections, min(MOST_BACKLOG, free - connections)


def _open_files() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return _SPARE_FILES


def _file_limit(wanted: int) -> int:
    try:
        import resource
    except ImportError:  # Windows, where sockets are no files
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited:
        return wanted
    if soft < wanted:
        higher = wanted if hard == unlimited else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (higher, hard))
        except (OSError, ValueError):
            return soft
        return higher
    return soft
