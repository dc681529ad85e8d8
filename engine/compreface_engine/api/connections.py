"""Open connections: their number is bounded by the open files that the process may have."""

from __future__ import annotations

import os
from typing import Final, Protocol

MAX_CONNECTIONS: Final = 1024
MAX_BACKLOG: Final = 1024
_OTHER_FILES: Final = 64
"""Files beside those open at the start: traces, reads of the cgroup, what libraries open."""


class Connection(Protocol):
    """A connection that can be closed from outside."""

    def drop(self) -> None:
        """Closes it at once."""
        ...


class Connections:
    """The open connections, at most `limit` of them.

    A new one beyond the limit replaces the one that has been in its state the longest, out of the
    larger of two groups: those that are idle or in the head of a request, and those in a body. So a
    client that opens connections without completing requests only loses its own, and others are
    answered. Connections whose request is computed are kept.

    All methods are called in the event loop's thread and take constant time.
    """

    def __init__(self, limit: int = MAX_CONNECTIONS) -> None:
        self.limit = limit
        self.dropped = 0
        self._idle: dict[Connection, None] = {}
        self._in_body: dict[Connection, None] = {}
        self._computing: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._idle) + len(self._in_body) + len(self._computing)

    def opened(self, connection: Connection) -> None:
        """Adds a connection; drops another, or this one where all others are computing."""
        if len(self) >= self.limit:
            group = max(self._idle, self._in_body, key=len)
            victim = next(iter(group), connection)
            self.closed(victim)
            self.dropped += 1
            victim.drop()
            if victim is connection:
                return
        self._idle[connection] = None

    def idle(self, connection: Connection) -> None:
        """Notes that it is between two requests, or at the first byte of a head."""
        self._move(connection, self._idle)

    def in_body(self, connection: Connection) -> None:
        """Notes that the head is complete and a body follows."""
        self._move(connection, self._in_body)

    def computing(self, connection: Connection) -> None:
        """Notes that the request is complete."""
        if connection in self._idle or connection in self._in_body:
            self.closed(connection)
            self._computing.add(connection)

    def closed(self, connection: Connection) -> None:
        """Removes a connection."""
        self._idle.pop(connection, None)
        self._in_body.pop(connection, None)
        self._computing.discard(connection)

    def _move(self, connection: Connection, group: dict[Connection, None]) -> None:
        # A dropped connection still reports its state until it is closed.
        known = self._idle, self._in_body, self._computing
        if any(connection in connections for connections in known):
            self.closed(connection)
            group[connection] = None


def connection_limits() -> tuple[int, int]:
    """The most open connections and the most in the backlog; both count as open files.

    Raises the process's soft limit of open files where it is too low for both.
    """
    own = _open_files() + _OTHER_FILES
    free = max(2, _file_limit(own + MAX_CONNECTIONS + MAX_BACKLOG) - own)
    connections = min(MAX_CONNECTIONS, free // 2)
    return connections, min(MAX_BACKLOG, free - connections)


def _open_files() -> int:
    try:
        return len(os.listdir("/dev/fd"))
    except OSError:
        return _OTHER_FILES


def _file_limit(needed: int) -> int:
    try:
        import resource
    except ImportError:  # Windows, where sockets are no files
        return needed
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited:
        return needed
    if soft < needed:
        higher = needed if hard == unlimited else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (higher, hard))
        except (OSError, ValueError):
            return soft
        return higher
    return soft
