"""A local registry with images made in memory, which lies about them as it is told."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from compreface_cli.models.registry.reference import Reference
from tests.cli.lying_server import Answer, LyingServer, _Handler, _Server

REPOSITORY = "exadel/compreface-core"
ZSTD = b"\x28\xb5\x2f\xfd"
SETUP = "RUN /bin/sh -c python -m src.services.facescan.plugins.setup # buildkit"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Member:
    """A member of a layer's tar; by default a plain file."""

    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    link: str = ""


def tar(*members: Member) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            row = tarfile.TarInfo(member.name)
            row.size, row.type, row.linkname = len(member.data), member.type, member.link
            archive.addfile(row, io.BytesIO(member.data))
    return made.getvalue()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Parts:
    """An image: its digest, and all that a registry has of it by digest."""

    digest: str
    contents: dict[str, bytes]
    layers: list[str]  # digests, from the bottom up
    config: str


def image(
    *layers: bytes, commands: Sequence[str] = (), packed: bool = False, **changes: object
) -> Parts:
    """An image of these tar files, which are compressed unless they are `packed` already.

    `changes` replace fields of its manifest.
    """
    blobs = [layer if packed else gzip.compress(layer, 1, mtime=0) for layer in layers]
    named = list(commands) or [f"COPY layer {number}" for number in range(len(layers))]
    # Entries without a layer stand between, as ENV and CMD do.
    history: list[dict[str, object]] = [{"created_by": "ENV A=1", "empty_layer": True}]
    for command in named:
        history += [{"created_by": command}, {"created_by": "CMD []", "empty_layer": True}]
    config = json.dumps({"architecture": "amd64", "os": "linux", "history": history}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"digest": digest_of(config), "size": len(config)},
        "layers": [{"digest": digest_of(blob), "size": len(blob)} for blob in blobs],
        **changes,
    }
    document = json.dumps(manifest).encode()
    everything = [document, config, *blobs]
    return Parts(
        digest_of(document),
        {digest_of(data): data for data in everything},
        [digest_of(blob) for blob in blobs],
        digest_of(config),
    )


def index(*images: tuple[str, str, Parts]) -> Parts:
    """An index of images for (os, architecture)."""
    rows = [
        {
            "digest": parts.digest,
            "size": len(parts.contents[parts.digest]),
            "platform": {"os": system, "architecture": architecture},
        }
        for system, architecture, parts in images
    ]
    document = json.dumps({"schemaVersion": 2, "manifests": rows}).encode()
    contents = {digest_of(document): document}
    for _, _, parts in images:
        contents |= parts.contents
    return Parts(digest_of(document), contents, [], "")


@dataclass
class LyingRegistry(LyingServer):
    """What the registry has, whom it serves, and its lies: answers by digest or for "token"."""

    contents: dict[str, bytes] = field(default_factory=dict)
    streams: dict[str, tuple[int, Callable[[], Iterator[bytes]]]] = field(default_factory=dict)
    lies: dict[str, list[Answer]] = field(default_factory=dict)
    challenge: str = ""  # bearer | basic; empty: it serves everybody
    login: tuple[str, str] | None = None  # None: a token is for everybody
    identity: str = ""  # the identity token that it accepts
    uses: int = 1000  # of a token
    tokens: dict[str, int] = field(default_factory=dict)  # token -> uses left

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def reference(self, parts: Parts, layer: str = "") -> Reference:
        """Take the image in; its name here."""
        self.contents |= parts.contents
        return Reference(self.host, REPOSITORY, parts.digest, layer)

    def paths(self, part: str = "") -> list[str]:
        return [request["path"] for request in self.requests if part in request["path"]]

    def next_answer(self, headers: dict[str, str]) -> Answer:
        self.requests.append(headers)
        path = urlsplit(headers["path"])
        if path.path == "/token":
            return self._lie("token") or self._token(headers)
        if self.challenge and not self._authorised(headers.get("authorization", "")):
            words = 'Basic realm="the registry"'
            if self.challenge == "bearer":
                words = f'Bearer realm="{self.url}/token",service="the registry"'
            return Answer(
                b'{"errors": [{"code": "UNAUTHORIZED"}]}',
                status=401,
                extra=(("WWW-Authenticate", words),),
            )
        digest = path.path.rpartition("/")[2]
        if lie := self._lie(digest):
            return lie
        if digest not in self.contents:
            return Answer(b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', status=404)
        return Answer(self.contents[digest], etag=f'"{digest}"')

    def _lie(self, key: str) -> Answer | None:
        return self.lies[key].pop(0) if self.lies.get(key) else None

    def _authorised(self, given: str) -> bool:
        if self.challenge == "basic":
            return self.login is not None and given == _basic(*self.login)
        token = given.removeprefix("Bearer ")
        if self.tokens.get(token, 0) <= 0:
            return False
        self.tokens[token] -= 1
        return True

    def _token(self, headers: dict[str, str]) -> Answer:
        form = parse_qs(headers.get("body", ""))
        by_identity = bool(self.identity) and form.get("refresh_token") == [self.identity]
        asked = parse_qs(urlsplit(headers["path"]).query) | form
        assert asked["scope"][0].startswith("repository:"), asked
        given = headers.get("authorization", "")
        if self.login is not None and given != _basic(*self.login) and not by_identity:
            return Answer(b"{}", status=401)
        token = f"token-{len(self.tokens)}"
        self.tokens[token] = self.uses
        key = "access_token" if by_identity else "token"
        return Answer(json.dumps({key: token}).encode(), content_type="application/json")


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class _RegistryHandler(_Handler):
    def do_GET(self) -> None:
        liar = self.server.liar
        digest = self.path.rpartition("/")[2]
        if isinstance(liar, LyingRegistry) and digest in liar.streams:
            size, made = liar.streams[digest]
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.send_header("Connection", "close")
            self.end_headers()
            for chunk in made():
                self.wfile.write(chunk)
            return
        super().do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.headers["body"] = body.decode()
        self.do_GET()


@contextmanager
def lying_registry(tls: ssl.SSLContext | None = None) -> Iterator[LyingRegistry]:
    server = _Server(("127.0.0.1", 0), _RegistryHandler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    registry = LyingRegistry(f"http://127.0.0.1:{server.server_address[1]}", [])
    server.liar = registry
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
