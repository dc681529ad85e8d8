"""Requests to one endpoint of a registry, with the authorisation that its challenge asks for.

The token protocol is that of the distribution project (spec/auth/token.md and oauth.md).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compreface_cli.models.registry.credentials import Credentials
from compreface_cli.models.registry.mirrors import Endpoint
from compreface_cli.models.registry.reference import loopback
from compreface_cli.models.transfer import GiveUp, Limits, TryAgain, retry_after

if TYPE_CHECKING:
    import httpx2

TOKEN_BYTES = 1 << 20
_SHORT_S = 30.0  # for a token, or for the question whether a registry has TLS
_PAUSE = frozenset({408, 425, 429, 500, 502, 503, 504})
_ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.docker.distribution.manifest.v2+json, */*;q=0.5"
)
_SCHEME = re.compile(r"\s*(basic|bearer)(?:\s+|$)", re.IGNORECASE)
_PARAMETER = re.compile(r'\s*,?\s*([a-zA-Z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')


class Session:
    """A client of one endpoint; it can stand for `httpx2.Client` in a transfer.

    The header Authorization is sent to the endpoint's own origin only, so neither to the host that
    a blob is redirected to. A token that has expired is replaced at the next request.
    """

    def __init__(
        self,
        client: httpx2.Client,
        endpoint: Endpoint,
        credentials: Callable[[], Credentials | None],
    ) -> None:
        import httpx2

        self._client = client
        self._endpoint = endpoint
        self._origin = httpx2.URL(endpoint.url).origin
        self._credentials = credentials
        self._header = ""

    def build_request(self, method: str, url: str, *, headers: dict[str, str]) -> httpx2.Request:
        return self._client.build_request(method, url, headers={"Accept": _ACCEPT, **headers})

    def send(self, request: httpx2.Request, *, stream: bool) -> httpx2.Response:
        own = request.url.origin == self._origin
        if own and self._header:
            request.headers["Authorization"] = self._header
        response = self._client.send(request, stream=stream)
        if response.status_code != 401 or not own:
            return response
        response.close()
        self._header = self._answer(response.headers.get_list("www-authenticate"))
        request.headers["Authorization"] = self._header
        response = self._client.send(request, stream=stream)
        if response.status_code == 401:
            response.close()
            raise self._refusal()
        return response

    def _answer(self, challenges: list[str]) -> str:
        """The header Authorization that answers a challenge; raises GiveUp, TryAgain."""
        known = self._credentials()
        for challenge in challenges:
            scheme, values = parse_challenge(challenge)
            if scheme == "bearer" and values.get("realm"):
                return f"Bearer {self._token(values, known)}"
            if scheme == "basic" and known is not None and known.user:
                return known.basic
        raise self._refusal()

    def _refusal(self) -> GiveUp:
        if self._credentials() is None:
            return GiveUp("it asks for a login", status=401)
        return GiveUp("it does not accept the credentials of docker login", status=401)

    def _token(self, challenge: dict[str, str], known: Credentials | None) -> str:
        import httpx2

        if known is not None and known.registry_token:
            return known.registry_token
        realm = httpx2.URL(challenge["realm"])
        secure = self._endpoint.url.startswith("https://") and not self._endpoint.insecure
        if realm.scheme != "https" and (secure or realm.scheme != "http"):
            raise GiveUp(f"it names a token service without TLS, {realm.host}", status=401)
        fields = {"scope": f"repository:{self._endpoint.repository}:pull"}
        if "service" in challenge:
            fields["service"] = challenge["service"]
        headers = {}
        if known is not None and known.identity_token:
            fields |= {"grant_type": "refresh_token", "refresh_token": known.identity_token}
            fields |= {"client_id": "compreface-cli"}
            request = self._client.build_request("POST", realm, data=fields)
        else:
            if known is not None and known.user:
                headers["Authorization"] = known.basic
            query = realm.copy_merge_params(fields)
            request = self._client.build_request("GET", query, headers=headers)
        status, document = self._document(request)
        if status != 200:
            asked = "with the credentials of docker login" if known else "without a login"
            raise GiveUp(f"its token service answered {status} {asked}", status=status)
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise GiveUp("its token service gave no token", status=401)
        return token

    def _document(self, request: httpx2.Request) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of an answer, read within bounds of size and time."""
        end = time.monotonic() + _SHORT_S
        response = self._client.send(request, stream=True)
        try:
            status = response.status_code
            if status in _PAUSE:
                raise TryAgain(
                    f"its token service answered {status}",
                    wait_s=retry_after(response),
                    status=status,
                )
            if status != 200:
                return status, {}
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > TOKEN_BYTES or time.monotonic() > end:
                    raise GiveUp("its token service gives an endless answer", status=401)
        finally:
            response.close()
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        return status, document if isinstance(document, dict) else {}


@contextmanager
def opened(
    endpoint: Endpoint, credentials: Callable[[], Credentials | None], limits: Limits
) -> Iterator[tuple[Session, Endpoint]]:
    """A session with the endpoint, and the endpoint with the scheme that answers."""
    import httpx2

    with httpx2.Client(
        timeout=httpx2.Timeout(limits.stall_s, connect=limits.connect_s),
        headers={"Accept-Encoding": "identity", "User-Agent": "compreface-cli"},
        follow_redirects=False,
        verify=not endpoint.insecure,
        # No proxy for this machine, as Go and so Docker have it.
        mounts={f"all://{endpoint.host}": None} if loopback(endpoint.host) else None,
    ) as client:
        if (
            endpoint.insecure
            and endpoint.url.startswith("https://")
            and not _has_tls(client, endpoint)
        ):
            endpoint = endpoint.plain
        yield Session(client, endpoint, credentials), endpoint


def _has_tls(client: httpx2.Client, endpoint: Endpoint) -> bool:
    """Whether an insecure registry speaks TLS, which Docker tries first."""
    import httpx2

    try:
        request = client.build_request("GET", f"https://{endpoint.host}/v2/")
        client.send(request, stream=True).close()
    except httpx2.HTTPError:
        return False
    return True


def parse_challenge(text: str) -> tuple[str, dict[str, str]]:
    """`Bearer realm="...",service="..."` -> ("bearer", {"realm": ..., "service": ...})."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        return "", {}
    values: dict[str, str] = {}
    at = scheme.end()
    while parameter := _PARAMETER.match(text, at):
        name, quoted, plain = parameter.groups()
        value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        values.setdefault(name.lower(), value)
        at = parameter.end()
    return scheme[1].lower(), values
