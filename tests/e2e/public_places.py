"""Stand-ins of the public registry and of the public web, and a copy of the tree that names them.

The images have the layout of upstream's. In the copy, the catalogue has the stand-ins' addresses,
digests and hashes in the place of the public ones, and nothing else is changed but the host whose
raw Git files are known.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import random
import re
import shutil
import tarfile
import threading
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.shared import ROOT

SETUP = "RUN |3 FACE_DETECTION_PLUGIN= /bin/sh -c python -m src.services.facescan.plugins.setup"
COPIED = ("builds", "compreface_cli", "engine", "templates")
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CHUNK = 1 << 20


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _layer(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=made, mode="wb", compresslevel=1, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        for name, data in files.items():
            row = tarfile.TarInfo(name)
            row.size = len(data)
            archive.addfile(row, io.BytesIO(data))
    return made.getvalue()


@dataclass(frozen=True)
class Image:
    """An image's manifest, config and layers."""

    manifest: bytes
    blobs: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def image(models: Mapping[str, bytes], *, frameworks: int) -> Image:
    """Laid out as upstream's: the models lie in one layer with `frameworks` bytes of packages."""
    layers = {
        "/bin/sh -c #(nop) ADD file:0 in /": {"etc/os-release": b"ID=debian\n"},
        "RUN /bin/sh -c apt-get update": {"usr/lib/libgl.so": random.Random(1).randbytes(100_000)},
        SETUP: {
            "usr/local/lib/python3.8/site-packages/framework.so": random.Random(2).randbytes(
                frameworks
            ),
            **{f"app/ml/.models/{name}": data for name, data in models.items()},
        },
        "COPY src src": {"app/ml/src/app.py": b"print()\n"},
    }
    blobs = [_layer(files) for files in layers.values()]
    history = [{"created_by": command} for command in layers]
    history.insert(2, {"created_by": "ENV HOME=/app/ml", "empty_layer": True})  # type: ignore[dict-item]
    config = json.dumps({"architecture": "amd64", "os": "linux", "history": history}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _row("application/vnd.docker.container.image.v1+json", config),
        "layers": [
            _row("application/vnd.docker.image.rootfs.diff.tar.gzip", blob) for blob in blobs
        ],
    }
    return Image(json.dumps(manifest).encode(), (config, *blobs))


def _row(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(data), "digest": digest_of(data)}


def push(registry: str, repository: str, made: Image) -> None:
    """Push over the registry's own protocol, each blob whole."""
    for blob in made.blobs:
        started = _ask("POST", f"http://{registry}/v2/{repository}/blobs/uploads/", b"")
        place = started.headers["Location"]
        place = place if "://" in place else f"http://{registry}{place}"
        joined = "&" if "?" in place else "?"
        _ask("PUT", f"{place}{joined}digest={digest_of(blob)}", blob)
    where = f"http://{registry}/v2/{repository}/manifests/{made.digest}"
    _ask("PUT", where, made.manifest, _MANIFEST)


def _ask(
    method: str, url: str, data: bytes, kind: str = "application/octet-stream"
) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
        made: http.client.HTTPResponse = answer
        return made


# --- the web, and what passes through it to the registry ------------------------------------------


@dataclass
class Web:
    """Serves files by path, hands `/v2/` on to a registry, and counts the bytes of its answers."""

    registry: str
    files: dict[str, bytes] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)  # by path
    host: str = ""  # HOST:PORT
    closed: bool = False  # it hangs up on every request
    refused: list[str] = field(default_factory=list)  # paths that were asked for meanwhile
    has_images: bool = True

    def bytes_sent(self) -> int:
        return sum(self.sent.values())


def _handler(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if web.closed:
                web.refused.append(self.path)
                self.close_connection = True
                return
            if self.path.startswith("/v2/") and web.has_images:
                self._hand_on()
                return
            data = web.files.get(self.path.partition("?")[0])
            if data is None:
                self.send_error(404)
                return
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = int(start[1]) if start else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - first))
            self.end_headers()
            self._send(data[first:])

        do_HEAD = do_GET

        def _send(self, data: bytes) -> None:
            if self.command == "GET":
                web.sent[self.path] = web.sent.get(self.path, 0) + len(data)
                self.wfile.write(data)

        def _hand_on(self) -> None:
            connection = http.client.HTTPConnection(web.registry, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() in ("range", "accept")}
            connection.request(self.command, self.path, headers=headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            while data := answer.read(_CHUNK):
                self._send(data)
            connection.close()

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(web))
    server.daemon_threads = True
    web.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


# --- the catalogue's sources ----------------------------------------------------------------------

IMAGE = re.compile(
    r"oci://docker\.io/(?P<repository>[\w./-]+)@(?P<digest>sha256:\w{64})/app/ml/\.models/"
)
GIT = re.compile(
    r"git\+https://github\.com/(?P<name>[\w.-]+/[\w.-]+)@(?P<commit>\w{40})/(?P<path>\S+)"
)
ZIP = re.compile(r"zip\+https://(?P<address>\S+?)@sha256:(?P<digest>\w{64})/(?P<member>\S+)")
WEB = re.compile(r"(?<!\+)https://(?P<address>(?:github\.com|huggingface\.co)/\S+)")


@dataclass
class Rewriting:
    """The public catalogue's text, in which the stand-ins take the places of the public files.

    `contents`: what stands in for each file of the catalogue, by its path in the entry. `images`:
    stand-ins by the public digest.
    """

    text: str
    contents: Mapping[str, bytes]
    images: Mapping[str, Image]
    web: Web

    def rewritten(self) -> str:
        """The text, with every file put where the web serves it."""
        for path, data in self.contents.items():
            self._files(path, data)
        for public, made in self.images.items():
            self.text = self.text.replace(public, made.digest)
        self.text = self.text.replace("oci://docker.io/", f"oci://{self.web.host}/")
        return self.text

    def _files(self, path: str, data: bytes) -> None:
        """The hashes and addresses of every entry of that file."""
        block = re.compile(
            rf"( *)- path: {re.escape(path)}\n(?P<fields>(?:\1  .*\n|\1      - .*\n)+)"
        )
        digest = hashlib.sha256(data).hexdigest()

        def entry(found: re.Match[str]) -> str:
            fields = re.sub(r"sha256: \w{64}", f"sha256: {digest}", found["fields"])
            fields = re.sub(r"bytes: \d+", f"bytes: {len(data)}", fields)
            fields = GIT.sub(lambda m: self._git(m, data), fields)
            fields = ZIP.sub(lambda m: self._zip(m, data), fields)
            fields = WEB.sub(lambda m: self._web(m, data), fields)
            return f"{found[1]}- path: {path}\n{fields}"

        self.text, count = block.subn(entry, self.text)
        assert count, path

    def _git(self, found: re.Match[str], data: bytes) -> str:
        name, commit, path = found["name"], found["commit"], found["path"]
        self.web.files[f"/{name}/raw/{commit}/{path}"] = data
        return f"git+http://{self.web.host}/{name}@{commit}/{path}"

    def _zip(self, found: re.Match[str], data: bytes) -> str:
        """An archive of that member alone, at an address of its own."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo(found["member"]), data)
        path = f"/{found['member']}/{found['address']}"
        self.web.files[path] = made.getvalue()
        digest = hashlib.sha256(made.getvalue()).hexdigest()
        return f"zip+http://{self.web.host}{path}@sha256:{digest}/{found['member']}"

    def _web(self, found: re.Match[str], data: bytes) -> str:
        path = f"/{found['address']}"
        self.web.files[path] = data
        return f"http://{self.web.host}{path}"


def copied_tree(root: Path, catalogue: str) -> Path:
    """A copy of the sources below `root` with that catalogue."""
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    (root / "compreface_cli" / "models" / "catalogue.yaml").write_text(catalogue, encoding="utf-8")
    sources = root / "compreface_cli" / "models" / "sources.py"
    text = sources.read_text(encoding="utf-8")
    assert text.count('host == "github.com"') == 1
    sources.write_text(text.replace('host == "github.com"', 'host == "127.0.0.1"'), "utf-8")
    return root
