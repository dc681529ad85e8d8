"""Docker's facts by a stand-in engine on a socket, and every way of being out of reach."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.facts import Questions, docker, gather, gpu
from compreface_cli.facts.docker import PublishedPort
from tests.cli.fake_engine import ANSWERS, VERSION, engine


def environ(host: str, folder: Path, **more: str) -> dict[str, str]:
    return {"DOCKER_HOST": host, "PATH": str(folder), "HOME": str(folder), **more}


def program(folder: Path, script: str) -> None:
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_an_engine_is_described(tmp_path: Path) -> None:
    program(tmp_path, "echo v2.26.1-4")
    with engine(ANSWERS, tmp_path / "d.sock") as host:
        facts = docker.gather(environ=environ(host, tmp_path))
    assert (facts.state, facts.local, facts.reachable) == ("ok", True, True)
    assert (facts.engine_version, facts.api_version, facts.architecture) == (
        "26.1.5",
        "1.45",
        "amd64",
    )
    assert (facts.compose_version, facts.client) == ("2.26.1-4", str(tmp_path / "docker"))
    assert (facts.cores, facts.memory_total) == (4, 8_000_000_000)
    assert facts.root_dir == "/"
    assert facts.root_free
    assert facts.runtimes == ("runc", "nvidia")
    assert facts.cdi_devices == ("nvidia.com/gpu=0",)
    assert facts.image("a") == facts.image("a:latest") != None  # noqa: E711
    assert facts.image("b") is None


def test_a_remote_engines_disk_is_not_this_hosts(tmp_path: Path) -> None:
    info = {"DockerRootDir": "/"}
    with engine({**ANSWERS, "/info": info}) as host:
        facts = docker.gather(environ=environ(host, tmp_path))
    assert (facts.local, facts.root_dir, facts.root_free) == (False, "/", None)
    assert facts.cdi_devices is None


def test_a_root_that_may_not_be_looked_at_has_no_figure(tmp_path: Path) -> None:
    info = {"DockerRootDir": str(tmp_path / "absent")}
    with engine({**ANSWERS, "/info": info}, tmp_path / "d.sock") as host:
        assert docker.gather(environ=environ(host, tmp_path)).root_free is None


def test_containers_tell_their_ports_volumes_project_and_folder(tmp_path: Path) -> None:
    running = {
        "Id": "1",
        "Names": ["/shop-web-1"],
        "State": "running",
        "Status": "Up 1 second",
        "Image": "nginx",
        "Labels": {
            "com.docker.compose.project": "shop",
            "com.docker.compose.project.working_dir": "/srv/shop",
        },
        "Ports": [
            {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 8000, "Type": "tcp"},
            {"IP": "127.0.0.1", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"},
            {"PrivatePort": 443, "Type": "tcp"},
        ],
        "Mounts": [{"Type": "volume", "Name": "data"}, {"Type": "bind", "Source": "/x"}],
    }
    looping: dict[str, Any] = {"Id": "2", "Names": None, "State": "restarting", "Ports": []}
    gone = {"Id": "3", "Names": ["/gone"], "State": "exited"}
    bindings = {
        "8080/tcp": [{"HostIp": "", "HostPort": "9000"}, {"HostIp": "", "HostPort": ""}],
        "53/udp": [{"HostIp": "", "HostPort": "53"}],
        "81/tcp": None,
    }
    answers = {
        **ANSWERS,
        "/containers/json": [running, looping, gone],
        "/containers/2/json": {"HostConfig": {"PortBindings": bindings}},
        "/volumes": {"Volumes": [{"Name": "data", "Labels": {docker.PROJECT_LABEL: "shop"}}]},
        "/networks": [{"Id": "n", "Name": "shop_default", "Labels": None}],
    }
    with engine(answers, tmp_path / "d.sock") as host:
        facts = docker.gather(environ=environ(host, tmp_path))
    web, loop = facts.containers
    assert (web.name, web.project, web.folder, web.active) == (
        "shop-web-1",
        "shop",
        "/srv/shop",
        True,
    )
    assert web.ports == (PublishedPort("127.0.0.1", 8000),)
    assert web.volumes == ("data",)
    assert (loop.name, loop.project, loop.active) == ("2", None, True)
    assert loop.ports == (PublishedPort("", 9000, held=False),)
    assert facts.volumes[0].project == "shop"
    assert facts.networks[0].project is None


@pytest.mark.parametrize(
    ("answer", "pullable", "words"),
    [
        ({"Descriptor": {}}, True, ""),
        ((403, {"message": "denied: requested access"}), False, "denied"),
        ((500, {"message": "no such host"}), False, "no such host"),
    ],
)
def test_images_that_are_absent_are_looked_up_in_their_registry(
    tmp_path: Path, answer: Any, pullable: bool, words: str
) -> None:
    answers = {**ANSWERS, "/distribution/b:latest/json": answer}
    with engine(answers, tmp_path / "d.sock") as host:
        facts = docker.gather(["a", "b"], environ=environ(host, tmp_path))
    assert list(facts.pulls) == ["b"]
    assert facts.pulls["b"].pullable is pullable
    assert words in facts.pulls["b"].reason


def test_no_socket_is_told(tmp_path: Path) -> None:
    facts = docker.gather(environ=environ(f"unix://{tmp_path}/d.sock", tmp_path))
    assert (facts.state, facts.client) == ("no-socket", None)
    assert "not installed" in facts.compose_error


def test_a_socket_without_an_engine_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "d.sock"))
    facts = docker.gather(environ=environ(f"unix://{tmp_path}/d.sock", tmp_path))
    assert facts.state == "refused"


def test_a_file_in_the_place_of_the_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.sock").touch()
    facts = docker.gather(environ=environ(f"unix://{tmp_path}/d.sock", tmp_path))
    assert facts.state == "refused"


def test_a_closed_tcp_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    assert docker.gather(environ=environ(f"tcp://127.0.0.1:{number}", tmp_path)).state == "refused"


def test_an_unknown_host_is_an_error_in_the_systems_words(tmp_path: Path) -> None:
    facts = docker.gather(environ=environ("tcp://no-such-host.invalid:2375", tmp_path))
    assert facts.state == "error"
    assert "no-such-host.invalid" in facts.error


def test_an_engine_that_never_answers_is_given_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "ANSWER_S", 1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "d.sock"))
        silent.listen(4)
        facts = docker.gather(environ=environ(f"unix://{tmp_path}/d.sock", tmp_path))
    assert (facts.state, facts.error) == ("timeout", "no answer within 1 s")


def test_an_engine_that_answers_nonsense_is_an_error(tmp_path: Path) -> None:
    with engine({"/version": VERSION}, tmp_path / "d.sock") as host:
        facts = docker.gather(environ=environ(host, tmp_path))
    assert facts.state == "error"
    assert "/info" in facts.error


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo \"docker: 'compose' is not a docker command\" >&2; exit 1", "not a docker command"),
        ("exit 0", "no Compose plugin"),
    ],
)
def test_a_client_without_compose_is_told(tmp_path: Path, script: str, words: str) -> None:
    program(tmp_path, script)
    facts = docker.gather(environ=environ(f"unix://{tmp_path}/d.sock", tmp_path))
    assert facts.compose_version is None
    assert words in facts.compose_error


def test_a_client_that_cannot_start_is_told(tmp_path: Path) -> None:
    program(tmp_path, "")
    (tmp_path / "docker").write_text("#!/no/such/interpreter\n")
    facts = docker.gather(environ=environ(f"unix://{tmp_path}/d.sock", tmp_path))
    assert facts.compose_version is None
    assert facts.compose_error


def context(folder: Path, name: str, host: str) -> None:
    meta = folder / ".docker" / "contexts" / "meta" / name
    meta.mkdir(parents=True)
    document = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
    (meta / "meta.json").write_text(json.dumps(document))


def test_the_address_follows_the_clients_own_order(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert docker.endpoint(home) == docker.DEFAULT_HOST
    context(tmp_path, "far", "ssh://far")
    context(tmp_path, "desk", "unix:///desk.sock")
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "far"}')
    assert docker.endpoint(home) == "ssh://far"
    assert docker.endpoint({**home, "DOCKER_CONTEXT": "desk"}) == "unix:///desk.sock"
    assert docker.endpoint({**home, "DOCKER_CONTEXT": "default"}) == docker.DEFAULT_HOST
    assert docker.endpoint({**home, "DOCKER_CONTEXT": "absent"}) == docker.DEFAULT_HOST
    assert docker.endpoint({**home, "DOCKER_HOST": "tcp://x:1"}) == "tcp://x:1"
    assert docker.endpoint({"DOCKER_CONFIG": str(tmp_path / ".docker")}) == "ssh://far"
    for nonsense in ("[]", "{"):
        (tmp_path / ".docker" / "config.json").write_text(nonsense)
        assert docker.endpoint(home) == docker.DEFAULT_HOST


@pytest.mark.parametrize(
    ("reference", "whole"),
    [
        ("a", "a:latest"),
        ("host:5000/a", "host:5000/a:latest"),
        ("host:5000/a:1", "host:5000/a:1"),
        ("a@sha256:00", "a@sha256:00"),
    ],
)
def test_references_get_their_tag(reference: str, whole: str) -> None:
    assert docker.with_tag(reference) == whole


def test_a_gpu_probe_that_the_engine_refuses_is_told_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine(ANSWERS, tmp_path / "d.sock") as host:
        for name, value in environ(host, tmp_path).items():
            monkeypatch.setenv(name, value)
        asked = Questions(gpu=True, images=("a",), probe_images=("b", "a"))
        facts = gather(asked)
    assert facts.gpu is not None
    assert facts.probe is not None
    assert (facts.probe.image, facts.probe.works) == ("a", False)
    assert facts.probe.error


def test_a_gpu_probe_of_an_engine_that_has_gone_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    fact = gpu.probe(f"tcp://127.0.0.1:{number}", "a", 0, os.environ)
    assert not fact.works
    assert "refused" in fact.error
