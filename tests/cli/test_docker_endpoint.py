"""Which engine is meant, by DOCKER_HOST, DOCKER_CONTEXT or the current context, and all ask it."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.docker import client, probe
from compreface_cli.docker.client import NoAnswerError
from compreface_cli.docker.endpoint import DEFAULT_HOST, Endpoint, current
from compreface_cli.facts import docker as facts
from tests.cli.fake_engine import ANSWERS, engine
from tests.cli.names import assert_named

FAR = "512eea46ceb3921dff4363c7069d89d4964d1d9fccaa0f411851a7aa60a5c868"  # SHA-256 of "far"


def context(folder: Path, host: str, **more: Any) -> None:
    """The files of `docker context create far --docker host=HOST`."""
    meta = folder / ".docker" / "contexts" / "meta" / FAR
    meta.mkdir(parents=True)
    document = {"Name": "far", "Endpoints": {"docker": {"Host": host, **more}}}
    (meta / "meta.json").write_text(json.dumps(document))


def choose(folder: Path, name: str) -> None:
    (folder / ".docker").mkdir(exist_ok=True)
    (folder / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))


def test_the_address_is_the_one_that_the_docker_program_takes(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert current(home) == Endpoint(DEFAULT_HOST)
    context(tmp_path, "ssh://far")
    choose(tmp_path, "far")
    assert current(home) == Endpoint("ssh://far")
    assert current({"DOCKER_CONFIG": str(tmp_path / ".docker")}) == Endpoint("ssh://far")
    assert current({**home, "DOCKER_CONTEXT": "default"}) == Endpoint(DEFAULT_HOST)
    assert current({**home, "DOCKER_HOST": "127.0.0.1:99"}) == Endpoint("tcp://127.0.0.1:99")
    assert current({**home, "DOCKER_HOST": ""}) == Endpoint("ssh://far")
    assert current({**home, "DOCKER_CONTEXT": "absent"}).error
    for nonsense in ("[]", "{"):
        (tmp_path / ".docker" / "config.json").write_text(nonsense)
        assert current(home) == Endpoint(DEFAULT_HOST)


def test_tls_is_used_where_docker_uses_it(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    by_host = {"DOCKER_HOST": "tcp://far:2376", "DOCKER_TLS_VERIFY": "1"}
    assert current(by_host).tls
    context(tmp_path, "tcp://far:2376")
    choose(tmp_path, "far")
    assert not current({**home, "DOCKER_TLS_VERIFY": "1"}).tls
    (tmp_path / ".docker" / "contexts" / "tls" / FAR / "docker").mkdir(parents=True)
    assert current(home).tls
    shutil.rmtree(tmp_path / ".docker")
    context(tmp_path, "tcp://far:2376", SkipTLSVerify=True)
    choose(tmp_path, "far")
    assert current(home).tls


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a choice, whose default engine would not answer."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(client, "_versions", {})
    return tmp_path


def test_list_builds_doctor_and_up_use_the_engine_of_the_context(home: Path) -> None:
    built = {"Id": "1", "RepoTags": ["a:1"], "Labels": {"compreface-cli.build": "embedded"}}
    with engine({**ANSWERS, "/images/json": [built]}, home / "d.sock") as host:
        context(home, host)
        choose(home, "far")
        quick, seen = probe.ask(30.0), facts.gather()
    assert quick is not None
    assert quick.images == {"embedded": ("a:1",)}
    assert (seen.state, seen.endpoint, seen.engine_version) == ("ok", host, "26.1.5")


def test_a_context_that_does_not_exist_is_no_engine_for_all(home: Path) -> None:
    choose(home, "absent")
    assert probe.ask(30.0) is None
    seen = facts.gather()
    assert (seen.state, seen.endpoint) == ("error", "context absent")
    assert_named(seen.error, "absent")


def test_engines_over_ssh_or_tls_are_reached_through_the_program(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker system dial-stdio` connects standard input and output to the engine."""
    with engine(ANSWERS, home / "d.sock"):
        dial = (
            "import os, socket, sys, threading\n"
            "assert sys.argv[1:] == ['system', 'dial-stdio'], sys.argv\n"
            f"s = socket.socket(socket.AF_UNIX); s.connect({str(home / 'd.sock')!r})\n"
            "threading.Thread(target=lambda: s.sendall(os.read(0, 65536)), daemon=True).start()\n"
            "while piece := s.recv(65536): os.write(1, piece)\n"
        )
        program(home, monkeypatch, dial)
        for variables in ({"DOCKER_HOST": "ssh://far"}, {"DOCKER_HOST": "tcp://far:2376"}):
            monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
            monkeypatch.setenv("DOCKER_HOST", variables["DOCKER_HOST"])
            assert client.get("info")["NCPU"] == 4


def test_a_program_that_cannot_connect_says_why(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://far")
    program(home, monkeypatch, "import sys; sys.exit('ssh: Could not resolve hostname far')")
    with pytest.raises(NoAnswerError, match="ssh://far") as failed:
        client.get("info")
    assert failed.value.reason == "ssh: Could not resolve hostname far"
    program(home, monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(NoAnswerError) as failed:
        client.get("info", timeout_s=0.5)
    assert failed.value.state == "timeout"
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(NoAnswerError, match="`docker`"):
        client.get("info")


def program(home: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A `docker` that is this Python script."""
    import os
    import sys

    path = home / "bin" / "docker"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


def test_an_engine_at_a_tcp_port_is_asked_directly(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with engine(ANSWERS) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        assert client.get("info")["NCPU"] == 4
    with pytest.raises(NoAnswerError) as failed:
        client.get("info")
    assert failed.value.state == "refused"


def test_a_refusal_of_the_engine_is_reported_in_its_words(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine({"/x": (500, {"message": "no such host"}), "/y": 1}) as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        assert client.find("nothing") is None
        assert client.get("y") == 1
        with pytest.raises(NoAnswerError, match="no such host") as failed:
            client.find("x")
    assert failed.value.status == 500


def test_a_socket_that_never_answers_is_a_timeout(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home / "s"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{home}/s")
        with pytest.raises(NoAnswerError) as failed:
            client.get("info", timeout_s=0.3)
    assert failed.value.state == "timeout"
