"""The real Docker engine, the images that the tests share, and a `cf` with empty folders."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.machine import REGISTRY, STACK, STANDINS, TAG, Cf, Docker
from tests.shared import SHARED, shared


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """The engine; tests that need it are skipped by name where none answers."""
    found = Docker()
    if not found.answers():
        pytest.skip("no Docker engine answers")
    yield found
    found.forget()


@pytest.fixture(scope="session")
def stack(docker: Docker) -> dict[str, str]:
    """Stand-ins of the four other services, as settings that choose them.

    The schema and the first rows are the real ones, from a dump in the shared folder.
    """
    if SHARED is None:
        pytest.skip("the shared folder with a database of the real services is absent")
    dump = f"--build-context=dump={shared('contract', 'stack')}"
    for name in STACK:
        docker.build(STANDINS, f"{REGISTRY}{name}:{TAG}", f"--target={name}", dump)
    versions = {f"CF_{part}_VERSION": TAG for part in ("ADMIN", "API", "FE", "POSTGRES")}
    return {"CF_REGISTRY": REGISTRY, **versions}


@pytest.fixture(scope="session")
def embedded(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The image of the embedded build, built once by `cf build`: its JSON answer."""
    cf = Cf(tmp_path_factory.mktemp("builder"))
    document: dict[str, Any] = json.loads(cf.ok("build", "embedded", "--json", timeout_s=400))
    # Docker drops its cache when the disk fills up; this very image could not be built again.
    docker("tag", document["id"], docker.own_name("embedded"))
    return document


@pytest.fixture
def cf(tmp_path: Path, docker: Docker) -> Iterator[Cf]:
    """`cf` in an empty folder with an empty home; what it started is removed after the test."""
    cf = Cf(tmp_path)
    try:
        yield cf
    finally:
        for instance in cf.instances:
            docker.sweep(f"cf-{instance}")


@pytest.fixture
def instance(cf: Cf) -> str:
    """The name of an instance that nobody else has."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    cf.instances.append(name)
    return name


def misbehaving(docker: Docker, behaviour: str) -> str:
    """The image of an engine that is slow, crashing, hungry or unhealthy."""
    tag = f"{REGISTRY}core:{behaviour}-{TAG}"
    argument = f"--build-arg=BEHAVIOUR={behaviour}"
    return docker.build(STANDINS, tag, "--target=core", argument)


def up_core(instance: str, port: int, *more: str) -> tuple[str, ...]:
    """`cf up` for the engine alone, on the Docker engine."""
    base = ("up", "embedded", "--services", "core", "--launcher", "compose")
    return (*base, "--instance", instance, "--port", str(port), *more)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.docker)
