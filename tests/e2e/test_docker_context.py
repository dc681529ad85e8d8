"""`list-builds`, `doctor` and `up` ask the engine of the chosen Docker context."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.machine import Cf, Docker

ENGINE = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
UP = ("up", "embedded", "--services", "core", "--port", "auto", "--launcher", "compose")


@pytest.fixture
def chooser(cf: Cf, tmp_path: Path) -> Cf:
    """A user without DOCKER_HOST, whose own Docker configuration has no context yet."""
    folder = tmp_path / "docker"
    folder.mkdir()
    plugins = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker")) / "cli-plugins"
    if plugins.is_dir():
        (folder / "cli-plugins").symlink_to(plugins)
    cf.environment |= {"DOCKER_HOST": "", "DOCKER_CONFIG": str(folder)}
    return cf


def choose(cf: Cf, description: str) -> None:
    environment = {**os.environ, **cf.environment}
    for words in (("create", "far", "--docker", description), ("use", "far")):
        subprocess.run(
            ["docker", "context", *words], env=environment, check=True, capture_output=True
        )


def asked(cf: Cf) -> tuple[Any, Any, Any]:
    """Whether the list knows the image, what doctor says of Docker, and how `up` would end."""
    builds = json.loads(cf.ok("list-builds", "--json"))["builds"]
    image = next(row for row in builds if row["name"] == "embedded")["image"]["built"]
    rows = json.loads(cf.run("doctor", "--json").stdout)["rows"]
    engine = next(row for row in rows if row["check"] == "docker")
    return image, engine, cf.run(*UP, "--dry-run")


class Proxy:
    """Passes each connection on to the engine."""

    def __init__(self, listening: socket.socket, keys: ssl.SSLContext | None = None) -> None:
        self.listening, self.keys, self.served = listening, keys, 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain, socket.socket(socket.AF_UNIX) as engine:
            keys = self.keys
            with keys.wrap_socket(plain, server_side=True) if keys else plain as connection:
                engine.connect(ENGINE.removeprefix("unix://"))
                self.served += 1
                back = threading.Thread(target=_pass_on, args=[engine, connection], daemon=True)
                back.start()
                _pass_on(connection, engine)
                back.join(60)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def local(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "far.sock"))
        server.listen()
        yield server


def keys(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's keys, which are a client's as well, and how a context names them."""
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    files = {name: str(folder / f"{name}.pem") for name in ("key", "cert")}
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject, "-days", "2"),
            *("-keyout", files["key"], "-out", files["cert"]),
        ],
        check=True,
        capture_output=True,
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files["cert"])
    server.load_cert_chain(files["cert"], files["key"])
    server.verify_mode = ssl.CERT_REQUIRED
    return server, f"ca={files['cert']},cert={files['cert']},key={files['key']}"


@pytest.mark.parametrize("way", ["unix", "tcp", "tls", "ssh"])
def test_all_three_ask_the_engine_of_the_context(
    chooser: Cf,
    embedded: dict[str, Any],
    tmp_path: Path,
    listening: socket.socket,
    local: socket.socket,
    way: str,
) -> None:
    if not ENGINE.startswith("unix://"):
        pytest.skip("the tests' own engine is on no local socket")
    host = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
    proxy: Proxy | None = None
    if way == "unix":
        host = f"unix://{tmp_path}/far.sock"
        proxy = Proxy(local)
        choose(chooser, f"host={host}")
    elif way == "tcp":
        proxy = Proxy(listening)
        choose(chooser, f"host={host}")
    elif way == "tls":
        server, client = keys(tmp_path)
        proxy = Proxy(listening, server)
        choose(chooser, f"host={host},{client}")
    else:
        host = "ssh://far"
        program = tmp_path / "bin" / "ssh"
        program.parent.mkdir()
        engine = f"DOCKER_HOST={ENGINE} docker system dial-stdio"
        program.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\nexec env {engine}\n")
        program.chmod(0o755)
        chooser.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        choose(chooser, f"host={host}")
    image, row, up = asked(chooser)
    # The list waits for half a second, in which ssh need not have connected.
    assert image is True or (way == "ssh" and image is None)
    assert (row["level"], f"at {host}" in row["message"]) == ("ok", True), row
    assert up.returncode == 0, up.stderr
    assert proxy.served > 5 if proxy else (tmp_path / "asked").read_text().count("far") > 5


def test_a_context_whose_engine_does_not_answer_is_no_other_engine_for_any(
    chooser: Cf, embedded: dict[str, Any]
) -> None:
    choose(chooser, "host=unix:///nowhere/docker.sock")
    image, row, up = asked(chooser)
    assert image is None
    assert row["level"] == "warn"
    assert "/nowhere/docker.sock" in row["message"]
    assert up.returncode == 6
    assert "/nowhere/docker.sock" in up.stderr


def test_a_context_that_does_not_exist_is_named(chooser: Cf, docker: Docker) -> None:
    chooser.environment["DOCKER_CONTEXT"] = "absent"
    image, row, up = asked(chooser)
    assert image is None
    assert_named(row["message"], "absent")
    assert up.returncode == 6
    assert_named(up.stderr, "absent")
