"""The download of a file from one source: retries, resumes, and validates the responses.

The bytes are written to `NAME.part`, and their source (address, ETag, length) to `NAME.part.json`,
so that a later run can resume. The file is renamed when its length, type and SHA-256 are right.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from compreface_cli.errors import FetchError
from compreface_cli.models import reach
from compreface_cli.models.files import sha256_of

if TYPE_CHECKING:
    import httpx2

# Output.progress: (label, total) -> a context manager that yields advance(amount).
Progress: TypeAlias = Callable[
    [str, "float | None"], AbstractContextManager[Callable[[float], None]]
]

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_ABSENT = frozenset({403, 404, 410})  # 403: so object stores answer for what they do not have
_WEB_PAGE = (b"<!doctype html", b"<html", b"<head", b"<?xml")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a download, in seconds and bytes."""

    connect_s: float = 10.0
    stall_s: float = 20.0  # without a byte
    slow_bytes: int = 4096  # least number of bytes per `stall_s`
    total_s: float = 3600.0
    tries: int = 4  # consecutive tries without a new byte, per source
    backoff_s: float = 0.5  # doubled after each try
    backoff_max_s: float = 10.0
    wait_max_s: float = 300.0  # of a wait that the server asks for (Retry-After)
    redirects: int = 5
    max_bytes: int = 8 << 30


class TryAgain(Exception):
    """A temporary failure of this try."""

    def __init__(self, reason: str, *, wait_s: float | None = None, status: int = 0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.status = status


class GiveUp(Exception):
    """A failure of this source for this run.

    `status`: the HTTP status that it answered, if any. `again`: whether a later run may succeed.
    `absent`: whether it delivers nothing, as opposed to what is at fault and stays so; by default
    where a later run may succeed, or by the status.
    """

    unreached: Mapping[str, str] = MappingProxyType({})  # the hosts, if that is the whole reason

    def __init__(
        self, reason: str, *, status: int = 0, again: bool = False, absent: bool | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.again = again
        known = again or status in _ABSENT or status >= 500
        self.absent = known if absent is None else absent


class OutOfReach(GiveUp):
    """There is no connection to a host."""

    def __init__(self, host: str, reason: str) -> None:
        self.unreached = {host: reason}
        super().__init__(reach.words(self.unreached), again=True)


class Client(Protocol):
    """What a transfer asks of an HTTP client; `httpx2.Client` is one."""

    def build_request(
        self, method: str, url: str, *, headers: dict[str, str]
    ) -> httpx2.Request: ...

    def send(self, request: httpx2.Request, *, stream: bool) -> httpx2.Response: ...


class WrongFile(GiveUp):
    """It delivers another file than the right one."""


@dataclass(slots=True)
class Transfer:
    """The tries with one source; its only lasting state is the partial file."""

    client: Client
    url: str
    target: Path
    wanted: tuple[str, ...]
    limits: Limits
    stack: ExitStack
    progress: Progress
    note: Callable[[str], None]
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    deadline: float  # on `clock`
    name: str = ""  # in notes and on the progress bar; by default that of the target
    size: int | None = None  # bytes of the file, where they are known beforehand
    advance: Callable[[float], None] | None = None
    counted: int = 0
    resumed: bool = False
    unreached: reach.Unreached = field(default_factory=dict)  # of the run; not tried again
    answered: bool = False  # by the server, in this transfer

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def about(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part.json")

    def run(self) -> None:
        """Download the file; raises GiveUp if this source fails, OSError if writing fails."""
        failed, furthest = 0, self._size()
        restarted = False
        while True:
            self._check_time()
            try:
                self._one_try()
                if self._finish():
                    return
                # The resumed part may be of another file: try once more, from the start.
                if restarted or not self.resumed:
                    digest = sha256_of(self.part)
                    self._discard()
                    raise WrongFile(f"wrong hash: SHA-256 {digest}, expected {self._expected()}")
                restarted = True
                self._discard()
            except TryAgain as failure:
                # Only new bytes count as progress: a part may be discarded again and again.
                failed = 0 if self._size() > furthest else failed + 1
                furthest = max(furthest, self._size())
                if failed >= self.limits.tries:
                    raise GiveUp(str(failure), status=failure.status, again=True) from failure
                pause = self._pause(failed, failure)
                later = f" in {pause:.0f} s" if pause >= 5 else ""
                self.note(f"{self.name or self.target.name}: {failure}; trying again{later}")
                self.sleep(pause)

    def _pause(self, failed: int, failure: TryAgain) -> float:
        """Seconds until the next try: what the server asks for, and no less than our own."""
        asked = failure.wait_s or 0.0
        if asked > min(self.limits.wait_max_s, self.deadline - self.clock()):
            reason = f"{failure} and asks to wait {asked:.0f} s"
            raise GiveUp(reason, status=failure.status, again=True)
        own: float = self.limits.backoff_s * 2 ** max(failed - 1, 0)
        return max(min(own, self.limits.backoff_max_s), asked)

    def _one_try(self) -> None:
        import httpx2

        offset, about = self._resumable()
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if about.get("validator"):
                headers["If-Range"] = about["validator"]
        try:
            response = self._open(headers)
            try:
                offset, total = self._judge(response, offset, about)
                self._receive(response, offset, total)
            finally:
                response.close()
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise self._without_connection(error) from error
        except httpx2.TimeoutException as error:
            raise TryAgain(f"no answer for {self.limits.stall_s:g} s") from error
        except (httpx2.RemoteProtocolError, httpx2.ReadError) as error:
            raise TryAgain("the connection was cut") from error
        except httpx2.UnsupportedProtocol as error:
            raise GiveUp("only http and https addresses are supported") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise TryAgain(f"the transfer failed ({error or type(error).__name__})") from error

    def _without_connection(self, error: httpx2.TransportError) -> TryAgain | OutOfReach:
        """A server that has answered before may be back soon; another host is not tried again."""
        host, reason = _host(error.request), reach.reason(error, self.limits.connect_s)
        if self.answered:
            return TryAgain(reach.words({host: reason}))
        self.unreached[host] = reason
        return OutOfReach(host, reason)

    def _open(self, headers: dict[str, str]) -> httpx2.Response:
        """The response after redirects; only http and https, and never from https to http."""
        request = self.client.build_request("GET", self.url, headers=headers)
        for _ in range(self.limits.redirects + 1):
            if request.url.scheme not in ("http", "https"):
                scheme = request.url.scheme or "a file of this machine"
                raise GiveUp(f"only http and https addresses are supported, not {scheme}")
            if (host := _host(request)) in self.unreached:
                raise OutOfReach(host, self.unreached[host])
            response = self.client.send(request, stream=True)
            if response.next_request is None:
                self.answered = True
                return response
            response.close()
            if request.url.scheme == "https" and response.next_request.url.scheme == "http":
                raise GiveUp("it redirects from https to http")
            request = response.next_request
        raise GiveUp(f"more than {self.limits.redirects} redirects")

    def _judge(
        self, response: httpx2.Response, offset: int, about: dict[str, Any]
    ) -> tuple[int, int | None]:
        """The offset of the body in the file, and the length of the whole file if it is known."""
        status = response.status_code
        if status == 416 and offset:
            self._discard()
            raise TryAgain("the partial download does not belong to the server's file")
        if status in _TRANSIENT:
            raise TryAgain(
                f"the server answered {status}", wait_s=retry_after(response), status=status
            )
        if status not in (200, 206):
            raise GiveUp(f"the server answered {status}", status=status)
        if "html" in response.headers.get("content-type", "").lower():
            raise GiveUp("it is a web page (a sign-in or warning page?), not a model file")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise GiveUp("the server compresses the file, so its length cannot be checked")
        length = _whole_number(response.headers.get("content-length"))
        total: int | None = length
        if status == 206:
            start, total = _content_range(response.headers.get("content-range", ""))
            other = _validator(response) != about.get("validator")
            if not offset or start != offset or other or total != about.get("total", total):
                self._discard()
                raise TryAgain("the file changed during the download")
            self.resumed = True
        else:
            offset = 0
            self.resumed = False
        if self.size is not None:
            if total not in (None, self.size):
                raise GiveUp(f"it has {total} bytes, not {self.size}")
            total = self.size
        chunked = response.headers.get("transfer-encoding", "").lower() == "chunked"
        if total is None and not chunked and not self.wanted:
            raise GiveUp("the server does not state the file's length, and no hash is known")
        self._check_room(offset, total)
        about_now = {"url": self.url, "validator": _validator(response), "total": total}
        self.about.write_text(json.dumps(about_now), encoding="utf-8")
        return offset, total

    def _receive(self, response: httpx2.Response, offset: int, total: int | None) -> None:
        self._count(offset, total)
        window_start, window_bytes = self.clock(), 0
        with self.part.open("r+b" if offset else "wb") as stream:
            if offset:
                stream.truncate(offset)
                stream.seek(offset)
            written = offset
            for chunk in response.iter_raw():
                if written == 0 and chunk[:64].lstrip().lower().startswith(_WEB_PAGE):
                    raise GiveUp("it is a web page, not a model file")
                written += len(chunk)
                if written > self.limits.max_bytes or (total is not None and written > total):
                    self._discard()
                    raise GiveUp(f"received more than {total or self.limits.max_bytes} bytes")
                stream.write(chunk)
                self._count(written, total)
                self._check_time()
                window_bytes += len(chunk)
                now = self.clock()
                if now - window_start >= self.limits.stall_s:
                    if window_bytes < self.limits.slow_bytes:
                        raise TryAgain(
                            f"received {window_bytes} bytes in {self.limits.stall_s:g} s"
                        )
                    window_start, window_bytes = now, 0
            stream.flush()
            os.fsync(stream.fileno())
        if total is not None and written != total:
            raise TryAgain(f"received {written} of {total} bytes")

    def _finish(self) -> bool:
        """Rename the partial file if its hash is right; returns whether it is."""
        if self.wanted and sha256_of(self.part) not in self.wanted:
            return False
        self.part.replace(self.target)
        self.about.unlink(missing_ok=True)
        return True

    def _resumable(self) -> tuple[int, dict[str, Any]]:
        """The size of the partial file that can be resumed, and its source."""
        try:
            about = json.loads(self.about.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            about = None
        # Without a validator, only a known hash shows that both halves are of the same file.
        fits = isinstance(about, dict) and about.get("url") == self.url
        if not fits or not (about.get("validator") or self.wanted):
            self._discard()
            return 0, {}
        size = self._size()
        if about.get("total") is not None and size >= about["total"]:
            self._discard()
            return 0, {}
        return size, about

    def _count(self, written: int, total: int | None) -> None:
        if self.advance is None:
            label = f"downloading {self.name or self.target.name}"
            self.advance = self.stack.enter_context(self.progress(label, total))
        self.advance(written - self.counted)
        self.counted = written

    def _check_room(self, offset: int, total: int | None) -> None:
        if total is None:
            return
        if total > self.limits.max_bytes:
            raise GiveUp(f"{total} bytes are more than the limit of {self.limits.max_bytes}")
        free = shutil.disk_usage(self.target.parent).free
        if total - offset > free:
            raise FetchError(
                f"{self.name or self.target.name} needs {total - offset} bytes, but {free} are "
                f"free in {self.target.parent}",
                hint="Free some space there, then run the command again.",
            )

    def _check_time(self) -> None:
        if self.clock() > self.deadline:
            raise GiveUp(f"not completed within {self.limits.total_s:g} s", again=True)

    def _size(self) -> int:
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)

    def _expected(self) -> str:
        return " or ".join(dict.fromkeys(self.wanted))


def _host(request: httpx2.Request) -> str:
    """`HOST[:PORT]`, without the port of the scheme."""
    return request.url.netloc.decode("ascii")


def _validator(response: httpx2.Response) -> str | None:
    """A strong ETag, else Last-Modified, for `If-Range`."""
    etag = response.headers.get("etag")
    if etag and not etag.startswith("W/"):
        return str(etag)
    return response.headers.get("last-modified")


def _content_range(text: str) -> tuple[int | None, int | None]:
    """`bytes 5-9/10` -> (5, 10)."""
    unit, _, rest = text.partition(" ")
    span, _, total = rest.partition("/")
    if unit.lower() != "bytes":
        return None, None
    return _whole_number(span.partition("-")[0]), _whole_number(total)


def _whole_number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def retry_after(response: httpx2.Response) -> float | None:
    """Seconds to wait, from the header Retry-After: a number of seconds, or a date."""
    value = response.headers.get("retry-after")
    seconds = _whole_number(value)
    if seconds is not None or value is None:
        return seconds
    from email.utils import parsedate_to_datetime  # late: it is slow to import and rarely needed

    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
