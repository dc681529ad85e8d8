"""Docker's facts by a stand-in engine on a socket, and every way of being out of reach."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.docker import client
from compreface_cli.docker.containers import PublishedPort
from compreface_cli.docker.labels import PROJECT
from compreface_cli.facts import Questions, docker, gather, gpu
from compreface_cli.facts.docker import DockerFacts
from tests.cli.fake_engine import ANSWERS, VERSION, engine
from tests.cli.names import assert_named

Look = Callable[..., DockerFacts]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """The facts of the engine at an address, for a user with an empty home and no other program."""
    for name in ("PATH", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(client, "_versions", {})

    def at(host: str, images: Sequence[str] = ()) -> DockerFacts:
        monkeypatch.setenv("DOCKER_HOST", host)
        return docker.gather(images)

    return at


def program(folder: Path, script: str) -> None:
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_an_engine_is_described(look: Look, tmp_path: Path) -> None:
    program(tmp_path, "echo v2.26.1-4")
    with engine(ANSWERS, tmp_path / "d.sock") as host:
        facts = look(host)
    assert (facts.state, facts.local, facts.reachable) == ("ok", True, True)
    assert (facts.engine_version, facts.architecture) == ("26.1.5", "amd64")
    assert (facts.compose_version, facts.client) == ("2.26.1-4", str(tmp_path / "docker"))
    assert (facts.cores, facts.memory_total) == (4, 8_000_000_000)
    assert facts.root_dir == "/"
    assert facts.root_free
    assert facts.runtimes == ("runc", "nvidia")
    assert facts.cdi_devices == ("nvidia.com/gpu=0",)
    assert facts.image("a") == facts.image("a:latest") != None  # noqa: E711
    assert facts.image("b") is None


def test_a_remote_engines_disk_is_not_this_hosts(look: Look, tmp_path: Path) -> None:
    info = {"DockerRootDir": "/"}
    with engine({**ANSWERS, "/info": info}) as host:
        facts = look(host)
    assert (facts.local, facts.root_dir, facts.root_free) == (False, "/", None)
    assert facts.cdi_devices is None


def test_an_unreadable_root_has_no_free_space(look: Look, tmp_path: Path) -> None:
    info = {"DockerRootDir": str(tmp_path / "absent")}
    with engine({**ANSWERS, "/info": info}, tmp_path / "d.sock") as host:
        assert look(host).root_free is None


def test_containers_have_their_ports_volumes_project_and_folder(look: Look, tmp_path: Path) -> None:
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
        "/containers/2/json": {
            "Id": "2",
            "Name": "/2",
            "Image": "sha256:2",
            "Config": {},
            "State": {"Status": "restarting"},
            "HostConfig": {"PortBindings": bindings},
        },
        "/volumes": {"Volumes": [{"Name": "data", "Labels": {PROJECT: "shop"}}]},
        "/networks": [{"Id": "n", "Name": "shop_default", "Labels": None}],
    }
    with engine(answers, tmp_path / "d.sock") as host:
        facts = look(host)
    web, loop = facts.containers
    assert (web.name, web.project, web.folder, web.active) == (
        "shop-web-1",
        "shop",
        "/srv/shop",
        True,
    )
    assert web.ports == (PublishedPort("127.0.0.1", 8000, inside=80),)
    assert web.volumes == ("data",)
    assert (loop.name, loop.project, loop.active) == ("2", None, True)
    assert loop.ports == (PublishedPort("", 9000, held=False, inside=8080),)
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
    look: Look, tmp_path: Path, answer: Any, pullable: bool, words: str
) -> None:
    answers = {**ANSWERS, "/distribution/b:latest/json": answer}
    with engine(answers, tmp_path / "d.sock") as host:
        facts = look(host, ["a", "b"])
    assert list(facts.pulls) == ["b"]
    assert facts.pulls["b"].pullable is pullable
    assert words in facts.pulls["b"].reason


def test_a_missing_socket_is_reported(look: Look, tmp_path: Path) -> None:
    facts = look(f"unix://{tmp_path}/d.sock")
    assert (facts.state, facts.client) == ("no-socket", None)
    assert_named(facts.compose_error, "docker")


def test_a_socket_without_an_engine_is_refused(look: Look, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "d.sock"))
    facts = look(f"unix://{tmp_path}/d.sock")
    assert facts.state == "refused"


def test_a_file_in_the_place_of_the_socket_is_refused(look: Look, tmp_path: Path) -> None:
    (tmp_path / "d.sock").touch()
    facts = look(f"unix://{tmp_path}/d.sock")
    assert facts.state == "refused"


def test_a_closed_tcp_port_is_refused(look: Look, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
    assert look(f"tcp://127.0.0.1:{number}").state == "refused"


def test_an_unknown_host_is_an_error_with_the_systems_message(look: Look, tmp_path: Path) -> None:
    facts = look("tcp://no-such-host.invalid:2375")
    assert facts.state == "error"
    assert facts.error


def test_an_engine_that_never_answers_is_given_up_on(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "ANSWER_S", 1)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "d.sock"))
        silent.listen(4)
        facts = look(f"unix://{tmp_path}/d.sock")
    assert facts.state == "timeout"
    assert_named(facts.error, "1 s")


def test_an_invalid_answer_of_the_engine_is_an_error(look: Look, tmp_path: Path) -> None:
    with engine({"/version": VERSION}, tmp_path / "d.sock") as host:
        facts = look(host)
    assert facts.state == "error"
    assert "/info" in facts.error


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo \"docker: 'compose' is not a docker command\" >&2; exit 1", "not a docker command"),
        ("exit 0", "Compose"),
    ],
)
def test_a_missing_compose_plugin_is_reported(
    look: Look, tmp_path: Path, script: str, words: str
) -> None:
    program(tmp_path, script)
    facts = look(f"unix://{tmp_path}/d.sock")
    assert facts.compose_version is None
    assert words in facts.compose_error


def test_a_docker_program_that_cannot_start_is_reported(look: Look, tmp_path: Path) -> None:
    program(tmp_path, "")
    (tmp_path / "docker").write_text("#!/no/such/interpreter\n")
    facts = look(f"unix://{tmp_path}/d.sock")
    assert facts.compose_version is None
    assert facts.compose_error


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


def test_a_refused_gpu_probe_is_reported_in_dockers_words(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = 'Error response from daemon: could not select device driver "nvidia"'
    program(tmp_path, f"test $1 = run && {{ echo '{words}' >&2; exit 125; }}; echo v2.26.1")
    with engine(ANSWERS, tmp_path / "d.sock") as host:
        monkeypatch.setenv("DOCKER_HOST", host)
        facts = gather(Questions(gpu=True, images=("a",), probe_images=("b", "a")))
    assert facts.gpu is not None
    assert facts.probe == gpu.ProbeFact("a", False, words)


def test_a_gpu_probe_without_the_docker_program_is_reported(look: Look) -> None:
    fact = gpu.probe("a", 0)
    assert not fact.works
    assert_named(fact.error, "docker")
