"""TLS at the UI's port by the nginx of the stack: for browsers, for `cf`, and after a renewal."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from compreface_cli.facts import tls
from tests.cli.certificates import Pair, pair
from tests.cli.names import assert_named
from tests.e2e.machine import Cf, Docker, free_port


class Stack(NamedTuple):
    cf: Cf
    docker: Docker
    instance: str
    up: tuple[str, ...]
    port: int
    files: Pair

    def fe(self) -> dict[str, Any]:
        return self.docker.inspect(f"cf-{self.instance}-compreface-fe-1")


@pytest.fixture(scope="module")
def running(
    docker: Docker,
    embedded: dict[str, Any],
    stack: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    cf = Cf(tmp_path_factory.mktemp("tls"))
    cf.environment |= stack
    files = pair(cf.here)
    instance, port = f"e2e-{uuid.uuid4().hex[:8]}", free_port()
    up = (
        *("up", "embedded", "--launcher", "compose", "--instance", instance),
        *("--port", str(port), "--core-port", str(free_port())),
        *("--tls", files.cert.name, files.key.name),
    )
    try:
        done = json.loads(cf.ok(*up, "--json"))
        assert done["ui_url"] == f"https://127.0.0.1:{port}"
        yield Stack(cf, docker, instance, up, port, files)
    finally:
        docker.sweep(f"cf-{instance}")


def get(port: int, path: str, context: ssl.SSLContext) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def handshake(port: int, version: ssl.TLSVersion) -> str:
    """The protocol that nginx agrees to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain) as encrypted:
            return encrypted.version() or ""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_the_ui_is_served_over_tls_only(running: Stack) -> None:
    """With the names of the certificate, modern protocols, and the key readable for nobody else."""
    trusted = ssl.create_default_context(cafile=str(running.files.cert))  # checks the name, too
    for path in ("/", "/admin/status", "/api/v1/consistence/status", "/core/status"):
        assert get(running.port, path, trusted)[0] == 200, path
    assert get(running.port, "/core/metrics", trusted)[0] == 403
    assert handshake(running.port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert handshake(running.port, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    with pytest.raises((ssl.SSLError, OSError)):
        handshake(running.port, ssl.TLSVersion.TLSv1_1)

    plain = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    plain.request("GET", "/login?a=b")
    answer = plain.getresponse()
    assert answer.status == 308
    assert answer.headers["Location"] == f"https://127.0.0.1:{running.port}/login?a=b"
    plain.close()

    key = running.cf.project(running.instance) / "tls" / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    shown = running.cf.ok("status", running.instance)
    assert_named(shown, f"https://127.0.0.1:{running.port}", "running")
    assert "another certificate" not in running.cf.run("doctor").stdout
    listed = json.loads(running.cf.ok("secrets", "list", running.instance, "--json"))
    assert "tls_key" in [each["name"] for each in listed["secrets"]]


def test_a_renewed_certificate_is_served_after_up_and_the_rest_goes_on(running: Stack) -> None:
    cf, before = running.cf, running.fe()
    cf.ok(*running.up)
    assert running.fe()["Id"] == before["Id"]  # nothing has changed
    old = tls.pinned(str(running.files.cert))
    core = running.docker.inspect(f"cf-{running.instance}-compreface-core-1")["Id"]
    for source, target in zip(pair(cf.here, "new"), running.files, strict=True):
        source.replace(target)
    cf.ok(*running.up)
    assert get(running.port, "/", tls.pinned(str(running.files.cert)))[0] == 200
    with pytest.raises(ssl.SSLError):
        get(running.port, "/", old)
    assert running.docker.inspect(f"cf-{running.instance}-compreface-core-1")["Id"] == core
    assert cf.run("status", running.instance).returncode == 0


def test_files_that_cannot_be_used_change_nothing(running: Stack, tmp_path: Path) -> None:
    cf, before = running.cf, running.fe()["Id"]
    other = pair(tmp_path, "other")
    at = running.up.index("--tls")
    refused = cf.run(*running.up[: at + 2], str(other.key))
    assert refused.returncode == 3
    assert_named(refused.stderr, "tls-files", other.key)
    for more in (("--services", "core"), ("--launcher", "process")):
        refused = cf.run("up", "embedded", "--instance", "none", *running.up[at:], *more)
        assert refused.returncode == 3, refused.stderr
    assert running.fe()["Id"] == before
    rendered = cf.run("render", "embedded", "-o", "out", *running.up[at : at + 2], str(other.key))
    assert rendered.returncode == 3
    assert not (cf.here / "out").exists()


def test_without_tls_the_port_speaks_http_again(running: Stack) -> None:
    cf = running.cf
    done = json.loads(cf.ok(*running.up[: running.up.index("--tls")], "--json"))
    assert re.match("http://", done["ui_url"])
    assert not (cf.project(running.instance) / "tls").exists()
    assert cf.run("status", running.instance).returncode == 0
