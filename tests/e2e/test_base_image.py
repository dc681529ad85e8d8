"""A base image that moved under its name, here or in its registry, is noticed and built upon."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.machine import Cf, Docker, free_port

BASE = "python:3.11-slim-bookworm"
LOCAL_REGISTRY = "127.0.0.1:5000"


class Base:
    """A base image of its own; another label makes it another image of the same layers."""

    def __init__(self, docker: Docker, name: str, folder: Path) -> None:
        self.docker, self.name, self.folder = docker, name, folder

    def made(self, label: str) -> str:
        """The id of what the name means now."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "Dockerfile").write_text(f"FROM {BASE}\nLABEL fix={label}\n")
        self.docker.build(self.folder, self.name)
        return str(self.docker.inspect(self.name)["Id"])


@pytest.fixture
def build(docker: Docker) -> Iterator[str]:
    """The name of a build of its own; its images are removed after the test."""
    name = f"e2e-base-{uuid.uuid4().hex[:8]}"
    yield name
    label = f"--filter=label=compreface-cli.build={name}"
    for found in docker("image", "ls", "--quiet", "--no-trunc", label).split():
        docker("image", "rm", "--force", found, check=False)


def base_of(docker: Docker, image: str) -> str:
    return str(docker.inspect(image)["Config"]["Labels"]["compreface-cli.base"])


def needs_a_registry() -> None:
    try:
        urllib.request.urlopen(f"http://{LOCAL_REGISTRY}/v2/", timeout=3).close()
    except OSError:
        pytest.skip(f"no registry answers at {LOCAL_REGISTRY}")


def test_up_and_build_notice_a_base_that_moved_here(
    docker: Docker, cf: Cf, instance: str, build: str, embedded: dict[str, Any], tmp_path: Path
) -> None:
    base = Base(docker, f"cf-standin/base:{uuid.uuid4().hex[:8]}", tmp_path / "base")
    first = base.made("1")
    made = json.loads(cf.ok("build", "--base-image", base.name, "--name", build, "--json"))
    assert base_of(docker, made["image"]) == first
    up = ("up", build, "--services", "core", "--launcher", "compose", "--json")
    doors = ("--instance", instance, "--port", str(free_port()))
    assert json.loads(cf.ok(*up, *doors))["change"] == "started"
    assert json.loads(cf.ok(*up, *doors))["change"] == "already running"

    second = base.made("2")
    dry = json.loads(cf.ok(*up, *doors, "--dry-run"))
    assert [one["cause"] for one in dry["operations"] if one["verb"] == "build image"] == [
        f"{base.name} is another image by now than the one it was built upon"
    ]
    done = cf.run(*up, *doors)
    assert json.loads(done.stdout)["change"] == "replaced", done.stderr
    said = f"{base.name} has changed since {made['image']} was built on it"
    assert said in done.stderr
    assert base_of(docker, made["image"]) == second
    again = json.loads(cf.ok("build", build, "--json"))
    assert again["built"] is False

    # Built apart from the start, the newer image is taken by it too.
    third = base.made("3")
    assert json.loads(cf.ok("build", build, "--json"))["built"] is True
    newest = docker.inspect(made["image"])["Id"]
    assert json.loads(cf.ok(*up, *doors))["change"] == "replaced"
    assert base_of(docker, made["image"]) == third
    container = docker.inspect(f"cf-{instance}-compreface-core-1")
    assert container["Image"] == newest
    assert json.loads(cf.ok(*up, *doors))["change"] == "already running"
    cf.ok("down", instance)


def test_pull_asks_the_registry_for_the_base(
    docker: Docker, cf: Cf, build: str, embedded: dict[str, Any], tmp_path: Path
) -> None:
    needs_a_registry()
    name = f"{LOCAL_REGISTRY}/cf-e2e/base:{uuid.uuid4().hex[:8]}"
    base = Base(docker, name, tmp_path / "base")
    moved = base.made("2")
    docker("push", name)
    here = base.made("1")
    made = json.loads(cf.ok("build", "--base-image", name, "--name", build, "--json"))
    assert base_of(docker, made["image"]) == here
    done = cf.run("build", build, "--pull", "--json")
    assert json.loads(done.stdout)["built"] is True, done.stderr
    assert_named(done.stderr, name)
    assert base_of(docker, made["image"]) == moved == docker.inspect(name)["Id"]
    done = cf.run("build", build, "--pull", "--json")
    assert json.loads(done.stdout)["built"] is False, done.stderr
    assert_named(done.stderr, name)


def test_a_registry_out_of_reach_is_named_and_what_is_here_stays(
    docker: Docker, cf: Cf, build: str, instance: str, embedded: dict[str, Any], tmp_path: Path
) -> None:
    name = f"127.0.0.1:{free_port()}/cf-e2e/base:1"
    Base(docker, name, tmp_path / "base").made("1")
    up = ("up", "embedded", "--services", "core", "--launcher", "compose", "--instance", instance)
    cf.environment["CF_BASE_IMAGE"] = name
    done = cf.run(*up, "--port", str(free_port()), "--pull")
    assert done.returncode == 9, done.stderr
    assert_named(done.stderr, f"error: --pull: {name} ", "connection refused", "Without --pull")
    assert docker.things_of(f"cf-{instance}") == []
    assert not cf.project(instance).exists()
    done = cf.run("build", "--base-image", name, "--name", build, "--pull")
    assert done.returncode == 9, done.stderr


def test_a_named_image_is_pulled_and_refused_for_another_build(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    needs_a_registry()
    name = f"{LOCAL_REGISTRY}/cf-e2e/core:{uuid.uuid4().hex[:8]}"
    docker("tag", embedded["id"], name)
    docker.own.append(name)
    docker("push", name)
    docker("image", "rm", name)
    cf.environment["CF_IMAGE"] = name
    core = ("--services", "core", "--instance", instance, "--port", str(free_port()))
    cf.environment["CF_DETECTOR"] = "facenet.FaceDetector"
    refused = cf.run("up", "embedded", *core)
    del cf.environment["CF_DETECTOR"]
    assert refused.returncode == 3, refused.stderr
    assert_named(refused.stderr, f"{name} (environment CF_IMAGE)", "embedded")
    assert_named(refused.stderr, "embedded.FaceDetector@mtcnn", "facenet.FaceDetector")
    assert not (cf.data / "engine-env").exists(), "no model is tried for a refused image"
    assert docker.things_of(f"cf-{instance}") == []
    docker("image", "rm", name)
    done = cf.run("up", "embedded", *core, "--json")
    assert done.returncode == 0, done.stderr
    container = docker.inspect(f"cf-{instance}-compreface-core-1")
    assert container["Image"] == embedded["id"] == docker.inspect(name)["Id"]
    cf.ok("down", instance)
