"""Each bundled build starts with one command where the public places have what the catalogue says.

The places are stand-ins: a real registry with images laid out as upstream's, and a web server.
`tests/e2e/walk.py` prints the same walk with networks of the real sizes.
"""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import Docker, free_port
from tests.e2e.public_places import Web
from tests.e2e.walk import ACCEPT, BUILDS, GPU, SMALL, Home, public_places, walk
from tests.shared import needs_shared

pytestmark = [pytest.mark.slow, needs_shared]
SHARED_REGISTRY = "127.0.0.1:5000"
ATTRIBUTES = {"gender", "age"}


def _answers(registry: str) -> bool:
    try:
        urllib.request.urlopen(f"http://{registry}/v2/", timeout=3).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real registry: the one on this machine, else one that ends with the tests."""
    if _answers(SHARED_REGISTRY):
        yield SHARED_REGISTRY
        return
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip(f"no registry answers at {SHARED_REGISTRY}, and docker-registry is not there")
    folder = tmp_path_factory.mktemp("registry")
    host = f"127.0.0.1:{free_port()}"
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}\n"
        f"http: {{addr: {host}}}\n"
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "serve", folder / "config.yml"], stdout=log, stderr=log)
    deadline = time.monotonic() + 20
    while not _answers(host) and time.monotonic() < deadline:
        time.sleep(0.1)
    yield host
    server.terminate()
    server.wait(20)
    shutil.rmtree(folder / "data", ignore_errors=True)


@pytest.fixture(scope="module")
def places(
    registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Web, Path]]:
    """The tree with the stand-ins' addresses, their web, and a folder for homes."""
    work = tmp_path_factory.mktemp("walk")
    with public_places(registry, SMALL, work) as (tree, web):
        yield tree, web, work
    shutil.rmtree(work, ignore_errors=True)


@pytest.fixture(scope="module")
def home(places: tuple[Path, Web, Path]) -> Home:
    """One home for all builds, empty at first."""
    tree, web, work = places
    return Home(tree, work / "home", web)


@pytest.mark.parametrize("build", BUILDS)
def test_a_build_is_listed_fetched_started_and_asked_for_a_face(home: Home, build: str) -> None:
    face = walk(home, build)
    if build not in GPU:
        assert set(face) >= {"box", "landmarks", "pose", *ATTRIBUTES}
        assert ("mask" in face) == (build in ("facenet", "mobilenet", "arcface-r100"))


@pytest.mark.parametrize("build", ["mobilenet", "sface"])
def test_a_build_is_started_with_docker(docker: Docker, home: Home, build: str) -> None:
    instance = f"e2e-{uuid.uuid4().hex[:8]}"
    image = home.json(build, "show", build, "--resolved")["plan"]["image"]
    docker.own.append(image)
    try:
        face = home.started_and_asked(build, "compose", instance)
        assert set(face) >= ATTRIBUTES
    finally:
        docker.sweep(f"cf-{instance}")


def test_facenet_starts_from_its_state_dict_where_upstreams_image_is_gone(
    places: tuple[Path, Web, Path],
) -> None:
    tree, web, work = places
    web.has_images = False
    try:
        face = Home(tree, work / "imageless", web).started_and_asked("facenet")
    finally:
        web.has_images = True
    assert set(face) >= ATTRIBUTES  # by the pair inside the engine
    assert "mask" not in face


def test_the_same_builds_start_offline_from_a_mirror_folder(
    places: tuple[Path, Web, Path], home: Home
) -> None:
    tree, web, work = places
    builds = ("arcface-r100", "sface")  # models of an image, and of addresses
    home.json("", "models", "pull", *builds, "-o", str(work / "mirror"), *ACCEPT)
    web.closed = True
    try:
        variables = {"CF_MODELS_MIRROR": str(work / "mirror")}
        offline = Home(tree, work / "offline", web, more=variables)
        for build in builds:
            assert set(offline.started_and_asked(build)) >= ATTRIBUTES
        assert web.refused == []
    finally:
        web.closed = False
