"""Pushes to real registries, and to such as stall, forget, lie, refuse, break or are full."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.causes import registry as registry_causes
from compreface_cli.docker import push
from compreface_cli.errors import FetchError
from compreface_cli.topics import Topic
from tests.e2e.machine import Cf, Docker, free_port, wait_until
from tests.e2e.odd_registry import Registry, odd_registry
from tests.e2e.test_registry import with_a_login

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture
def small(docker: Docker, tmp_path: Path) -> str:
    """A local image of a few bytes that no other test has."""
    (tmp_path / "file").write_text(uuid.uuid4().hex)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    return docker.build(tmp_path, docker.own_name("small"))


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Debian's registry with its store in the folder; its host and port."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("the program docker-registry is absent")
    host = f"127.0.0.1:{free_port()}"
    (folder / "registry.yml").write_text(
        f"version: 0.1\nhttp: {{addr: '{host}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/store}}}}\n"
    )
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(
            [program, "serve", str(folder / "registry.yml")], stdout=log, stderr=log
        )
        try:
            wait_until(lambda: "listening on" in (folder / "log").read_text())
            yield host
        finally:
            child.terminate()
            child.wait(20)


def names_at(docker: Docker, host: str) -> str:
    return docker("image", "ls", "--quiet", f"--filter=reference={host}/*/*")


def refused(docker: Docker, image: str, host: str, topic: Topic, **more: float) -> FetchError:
    """The error of a push, which leaves no name behind."""
    with pytest.raises(FetchError) as caught:
        push.push(image, f"{host}/faces", **more)  # type: ignore[arg-type]
    assert caught.value.topic == topic, caught.value.message
    assert caught.value.details["registry"] == host
    assert names_at(docker, host) == ""
    assert docker.inspect(image)["RepoTags"] == [image]
    return caught.value


def test_build_pushes_names_the_registrys_digest_and_keeps_no_name(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any], tmp_path: Path
) -> None:
    with registry(tmp_path) as host:
        cf.environment["CF_PUSH_TO"] = f"{host}/faces/of"
        document = json.loads(cf.ok("build", "embedded", "--push", "--json"))
        place, _, digest = document["reference"].partition("@")
        assert place == f"{host}/faces/of/compreface-core"
        assert document["digest"] == digest
        url = f"http://{host}/v2/faces/of/compreface-core/manifests/"
        for name in (digest, embedded["image"].rpartition(":")[2]):
            request = urllib.request.Request(url + name, headers={"Accept": MANIFEST})
            with urllib.request.urlopen(request, timeout=10) as answer:
                assert answer.headers["Docker-Content-Digest"] == digest
                assert json.load(answer)["config"]["digest"] == embedded["id"]
        assert names_at(docker, host) == ""
        # The record names it for a rendering; a second push sends nothing and says the same.
        rows = json.loads((cf.home / ".local/state/compreface-cli/pushes.json").read_text())
        assert rows == {f"{host}/faces/of {embedded['id']}": document["reference"]}
        again = cf.ok("build", "embedded", "--push-to", f"{host}/faces/of")
        assert document["reference"] in again
        # The digest is a name that an instance runs by.
        flags = ("--services", "core", "--launcher", "compose", "--port", str(free_port()))
        cf.ok("up", "--image", document["reference"], "--instance", instance, *flags)
        cf.ok("down", instance)
        docker("image", "rm", "--no-prune", document["reference"])


def test_a_name_that_the_user_gave_is_kept(docker: Docker, small: str, tmp_path: Path) -> None:
    with registry(tmp_path) as host:
        own = f"{host}/faces/compreface-core:{small.rpartition(':')[2]}"
        docker("tag", "python:3.11-slim-bookworm", own)
        try:
            before = docker.inspect(own)["Id"]
            reference = push.push(small, f"{host}/faces")
            assert docker.inspect(own)["Id"] == before
            assert docker.inspect(small)["RepoDigests"] == []
            assert push.push_name(own) != reference.rpartition("@")[2]
        finally:
            docker("image", "rm", "--no-prune", own)


def test_a_registry_with_a_password_takes_the_login_of_docker(
    docker: Docker, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with with_a_login(tmp_path) as host:
        error = refused(docker, small, host, registry_causes.LOGIN)
        assert f"docker login {host}" in (error.hint or "")
        docker("login", "--username=me", "--password=secret", host)
        reference = push.push(small, f"{host}/faces")
        assert reference.startswith(f"{host}/faces/compreface-core@sha256:")
        docker("logout", host)
        refused(docker, small, host, registry_causes.LOGIN)


def test_no_registry_or_one_by_http(docker: Docker, small: str) -> None:
    refused(docker, small, f"127.0.0.1:{free_port()}", registry_causes.UNREACHABLE)
    refused(docker, small, "registry.invalid:5000", registry_causes.UNREACHABLE)
    address = docker("network", "inspect", "bridge", "--format={{(index .IPAM.Config 0).Gateway}}")
    with odd_registry(Registry(), address) as host:
        refused(docker, small, host, registry_causes.PLAIN_HTTP)


@pytest.mark.parametrize(
    ("behaviour", "topic"),
    [
        ("forgets", registry_causes.FAILED),
        ("lies", registry_causes.FAILED),
        ("refuses", registry_causes.RIGHTS),
    ],
)
def test_a_registry_that_fails(docker: Docker, small: str, behaviour: str, topic: Topic) -> None:
    with odd_registry(Registry(behaviour)) as host:
        refused(docker, small, host, topic)


def test_a_registry_that_stalls_is_given_up(docker: Docker, small: str) -> None:
    with odd_registry(Registry("stalls")) as host:
        error = refused(docker, small, host, registry_causes.STALLED, stall_s=3.0)
        assert error.details["timed_out"] is True


def test_a_push_that_breaks_off_is_tried_again(
    docker: Docker, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(push, "PAUSES_S", (0.1, 0.1))
    flaky = Registry("breaks", times=2)
    said: list[str] = []
    with odd_registry(flaky) as host:
        reference = push.push(small, f"{host}/faces", report=said.append)
        assert reference.rpartition("@")[2] in flaky.manifests
        assert len(said) == 2
        flaky.times = 3
        refused(docker, small, host, registry_causes.UNREACHABLE)
