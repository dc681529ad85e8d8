"""Load on one HTTP route: a number of keep-alive connections that post one photograph."""

from __future__ import annotations

import http.client
import mimetypes
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

BOUNDARY = "a-boundary-of-the-load"
NO_ANSWER = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not answered as wanted; `status` is NO_ANSWER if none came."""

    status: int
    body: str
    took_s: float
    at_s: float
    """Seconds from the start of the load to the end of this request."""


@dataclass(slots=True)
class Result:
    """What became of the requests of one load."""

    connections: int
    by_status: Counter[int] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    """How long each answered request took, failed ones included, in no order."""
    lasted_s: float = 0.0

    @property
    def sent(self) -> int:
        return self.by_status.total()

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def slowest_s(self) -> float:
        return max(self.times_s, default=0.0)

    def __str__(self) -> str:
        rate = self.sent / self.lasted_s if self.lasted_s else 0.0
        answers = ", ".join(
            f"{count} {status or 'broken'}" for status, count in sorted(self.by_status.items())
        )
        said = "".join(
            f"\n  at {one.at_s:.1f} s: {one.status or 'broken'}, {one.took_s:.1f} s, {one.body}"
            for one in self.failures[:10]
        )
        return (
            f"{self.connections} connections, {self.sent} requests ({answers}) in "
            f"{self.lasted_s:.1f} s, {rate:.1f}/s, {self.failed} failed, "
            f"slowest {self.slowest_s:.1f} s{said}"
        )


class Load:
    """Posts `photograph` to `url` over `connections` connections from `start` to `stop`.

    Each connection sends its next request as soon as the last one is answered, and is kept until
    the server says that it closes it. A connection that breaks counts as a failure and is made
    anew, after 50 ms. An answer without the text `holds` is a failure too. `header` holds further
    header lines, such as the key of a service.
    As a context manager it starts at once and stops at the end; `result` is whole from then on.
    """

    def __init__(
        self,
        url: str,
        photograph: Path,
        *,
        connections: int,
        header: Mapping[str, str] | None = None,
        wanted: int = 200,
        timeout_s: float = 90.0,
        holds: str = "",
    ) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._host, self._port = address.hostname, address.port or 80
        self._target = address.path + (f"?{address.query}" if address.query else "")
        self._body = _form(photograph)
        self._header = {
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            **(header or {}),
        }
        self._wanted, self._timeout_s = wanted, timeout_s
        self._holds = holds.encode()
        self._left: int | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._began = 0.0
        self._threads = [
            threading.Thread(target=self._send_on, daemon=True) for _ in range(connections)
        ]
        self.result = Result(connections)

    def start(self, count: int | None = None) -> None:
        """Begin; with `count` each sends until that many were sent in all."""
        self._left, self._began = count, time.monotonic()
        for thread in self._threads:
            thread.start()

    def halt(self) -> None:
        """Send nothing more; `wait` says what became of what is under way."""
        self._stopping.set()

    def stop(self) -> Result:
        """Let every request that is under way end, and say what became of all."""
        self.halt()
        return self.wait()

    def wait(self) -> Result:
        """Wait until the count is reached."""
        for thread in self._threads:
            thread.join()
        self.result.lasted_s = time.monotonic() - self._began
        return self.result

    def answered(self, more: int, timeout_s: float = 60.0) -> None:
        """Wait until `more` further requests were answered as wanted."""
        goal = self.result.by_status[self._wanted] + more
        deadline = time.monotonic() + timeout_s
        while self.result.by_status[self._wanted] < goal:
            assert time.monotonic() < deadline, f"the load stands still: {self.result}"
            time.sleep(0.05)

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _send_on(self) -> None:
        connection = self._connection()
        while self._next():
            began = time.monotonic()
            try:
                connection.request("POST", self._target, self._body, self._header)
                with connection.getresponse() as answer:
                    status, body = answer.status, answer.read()
            except (OSError, http.client.HTTPException) as broken:
                connection.close()
                self._count(NO_ANSWER, repr(broken).encode(), began)
                time.sleep(0.05)
            else:
                self._count(status, body, began)
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        # http.client opens it with the first request, and again after the server has closed it.
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _next(self) -> bool:
        with self._lock:
            if self._stopping.is_set() or self._left == 0:
                return False
            if self._left is not None:
                self._left -= 1
            return True

    def _count(self, status: int, body: bytes, began: float) -> None:
        ended = time.monotonic()
        with self._lock:
            self.result.by_status[status] += 1
            if status != NO_ANSWER:
                self.result.times_s.append(ended - began)
            if status != self._wanted or self._holds not in body:
                text = body[:300].decode(errors="replace")
                self.result.failures.append(
                    Failure(status, text, ended - began, ended - self._began)
                )


def load(
    url: str,
    photograph: Path,
    *,
    connections: int,
    count: int | None = None,
    seconds: float | None = None,
    header: Mapping[str, str] | None = None,
    wanted: int = 200,
    timeout_s: float = 90.0,
) -> Result:
    """Send `count` requests in all, or for `seconds`; what became of them."""
    assert (count is None) != (seconds is None), "either a count or a time"
    one = Load(
        url,
        photograph,
        connections=connections,
        header=header,
        wanted=wanted,
        timeout_s=timeout_s,
    )
    one.start(count)
    if seconds is None:
        return one.wait()
    time.sleep(seconds)
    return one.stop()


def _form(photograph: Path) -> bytes:
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; '
        f'filename="{photograph.name}"\r\n'
        f"Content-Type: {mimetypes.guess_type(photograph.name)[0]}\r\n\r\n"
    )
    return head.encode() + photograph.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
