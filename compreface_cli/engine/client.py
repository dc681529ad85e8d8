"""HTTP client of a running engine: its status and the faces of a picture, each with a timeout."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from compreface_cli.errors import CfError, UnhealthyError, UsageError

if TYPE_CHECKING:
    from ssl import SSLContext
    from types import TracebackType

    import httpx2

CONNECT_TIMEOUT_S = 3.0
# The engine lets a request wait 10 s and computes well under a second for any picture it accepts.
ANSWER_TIMEOUT_S = 60.0

LATER = (429, 503)  # rate limit, full queue: the same request may succeed later


class Refused(CfError):
    """The engine answered with an error: the HTTP `status`, and its `message`.

    `truncated`: the engine reported that the picture was cut short.
    """

    def __init__(self, status: int, message: str, *, truncated: bool = False) -> None:
        super().__init__(message, details={"status": status})
        self.status = status
        self.truncated = truncated


class EngineClient:
    """A client of one engine; it keeps connections between calls, so close it (or use `with`)."""

    def __init__(
        self,
        url: str,
        *,
        key: str = "",
        timeout_s: float = ANSWER_TIMEOUT_S,
        certificate: str = "",
    ) -> None:
        """`certificate`: the file with the only certificate that is accepted at an https address.

        Raises UnhealthyError if that cannot be read.
        """
        import httpx2

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"'{url}' is not an engine's URL", hint="An example: http://127.0.0.1:3000"
            )
        self.url = url.rstrip("/")
        self.key = key
        self._httpx = httpx2
        self._client = httpx2.Client(
            verify=_trusting(certificate) if certificate else True,
            base_url=self.url,
            headers={"X-Api-Key": key} if key else None,
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            # A proxy named in the environment is not used for this machine's own ports.
            trust_env=not _is_local(parts.hostname),
        )

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def status(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """The engine's `/status`."""
        return self.read("/status", timeout_s=timeout_s)

    def read(self, path: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """The JSON object at `path`; raises as `scan` does."""
        return self._read(self._request("GET", path, timeout_s=timeout_s))

    def text(self, path: str) -> str:
        """The text at `path`; raises as `scan` does."""
        response = self._request("GET", path)
        if response.status_code != 200:
            raise Refused(response.status_code, f"{path}: status {response.status_code}")
        return response.text

    def scan(
        self,
        picture: bytes,
        *,
        filename: str = "picture",
        plugins: Iterable[str] = (),
        limit: int = 0,
        min_score: float | None = None,
    ) -> dict[str, Any]:
        """The answer of `/find_faces`: {"result": [face, ...], "plugins_versions": {...}}, and
        "truncated" from its header: whether the picture was cut short and decoded in part.

        Raises Refused for an error that the engine reports (no face: status 400), UnhealthyError
        when it cannot be reached or gives an invalid answer.
        """
        query: dict[str, str] = {"face_plugins": ",".join(plugins), "limit": str(limit)}
        if min_score is not None:
            query["det_prob_threshold"] = repr(min_score)
        response = self._post("/find_faces", picture, filename, query)
        return {**self._read(response), "truncated": _truncated(response)}

    def send(
        self,
        path: str,
        picture: bytes,
        *,
        filename: str,
        query: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """The JSON object that answers a photograph sent to `path`, also one of CompreFace's api.

        Raises as `scan` does.
        """
        return self._read(self._post(path, picture, filename, query, timeout_s))

    def _post(
        self,
        path: str,
        picture: bytes,
        filename: str,
        query: Mapping[str, str] | None,
        timeout_s: float | None = None,
    ) -> httpx2.Response:
        files = {"file": (filename, picture, "application/octet-stream")}
        return self._request("POST", path, params=query, files=files, timeout_s=timeout_s)

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
        timeout_s: float | None = None,
    ) -> httpx2.Response:
        extra: dict[str, Any] = {} if timeout_s is None else {"timeout": timeout_s}
        try:
            return self._client.request(method, path, params=params, files=files, **extra)
        except self._httpx.TimeoutException as error:
            raise UnhealthyError(f"the engine at {self.url} gave no answer in time") from error
        except (self._httpx.HTTPError, self._httpx.InvalidURL) as error:
            raise UnhealthyError(
                f"no engine can be reached at {self.url}: {error}",
                hint="`cf status` shows the running instances and their addresses.",
            ) from error

    def _read(self, response: httpx2.Response) -> dict[str, Any]:
        try:
            document = response.json()
        except ValueError:
            document = None
        if response.status_code == 200 and isinstance(document, dict):
            return document
        if isinstance(document, dict) and isinstance(document.get("message"), str):
            raise Refused(response.status_code, document["message"], truncated=_truncated(response))
        raise UnhealthyError(
            f"the server at {self.url} is not an engine: status {response.status_code}",
            details={"status": response.status_code, "body": response.text[:200]},
        )


def _truncated(response: httpx2.Response) -> bool:
    return bool(response.headers.get("x-image-truncated") == "true")


def _trusting(certificate: str) -> SSLContext:
    from compreface_cli.facts import tls

    try:
        return tls.pinned(certificate)
    except (OSError, ValueError) as error:
        raise UnhealthyError(f"the certificate {certificate} cannot be read: {error}") from error


def is_up(url: str, *, key: str = "", timeout_s: float = 1.0) -> bool:
    """Whether an engine at `url` answers `/status` with OK now."""
    return fault(url, key=key, timeout_s=timeout_s) is None


def fault(url: str, *, key: str = "", timeout_s: float = 1.0) -> str | None:
    """The answer of `/status` when it is not OK: `500 no model`; "" for no answer, None for OK."""
    try:
        with EngineClient(url, key=key, timeout_s=timeout_s) as client:
            answer = client.status()
    except Refused as refused:
        code = f"{refused.status} "
        return code + refused.message.removeprefix(code)
    except UnhealthyError as error:
        status, body = error.details.get("status"), error.details.get("body")
        return "" if status is None else " ".join(f"{status} {body}".split())
    return None if answer.get("status") == "OK" else f"200 {json.dumps(answer)[:200]}"


def seconds(url: str, *, key: str = "", timeout_s: float = 1.0) -> float | None:
    """The time that an engine takes to answer `/status` with OK; None when it does not."""
    began = time.monotonic()
    return time.monotonic() - began if is_up(url, key=key, timeout_s=timeout_s) else None


def gauges(url: str, *, key: str = "", timeout_s: float = 1.0) -> dict[str, float]:
    """The engine's metrics without labels, by name; {} when it gives none."""
    try:
        with EngineClient(url, key=key, timeout_s=timeout_s) as client:
            lines = client.text("/metrics").splitlines()
    except (UnhealthyError, Refused):
        return {}
    pairs = [line.split() for line in lines if line and line[0] != "#" and "{" not in line]
    values: dict[str, float] = {}
    for pair in pairs:
        with suppress(ValueError):
            name, value = pair
            values[name] = float(value)
    return values


def until(deadline: float) -> float:
    """Seconds left until `deadline` (time.monotonic), never below zero."""
    return max(0.0, deadline - time.monotonic())


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
