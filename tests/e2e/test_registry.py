"""Files of an image in a real registry, with and without the copy that Docker has."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import subprocess
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from compreface_cli.docker import image_files
from compreface_cli.docker.labels import LABEL_COPY
from compreface_cli.errors import FetchError
from compreface_cli.models import registry
from compreface_cli.models.registry.reference import Reference
from tests.e2e.machine import REGISTRY, Docker, free_port, wait_until
from tests.shared import SHARED

BASE = "python:3.11-slim-bookworm"
LOCAL_REGISTRY = "127.0.0.1:5000"
MODELS = "app/ml/.models"
FACENET = f"{MODELS}/facenet/calculator/20180402-114759/20180402-114759.pb"
PARAMETERS = f"{MODELS}/insightface/calculator/arcface_mobilefacenet/model-0000.params"
REMOVED = f"{MODELS}/facenet/calculator/20180402-114759/archive.zip"
SECRET = "$2b$05$DZv5EiIBpSfDgwixiiEMGuzbmsn91LgdfFB.4vBRpZAlU7/wDhdn2"  # bcrypt of "secret"
HINT = "facescan.plugins.setup"
# As upstream's: the frameworks and the models come from one step, which runs its own module.
SETUP = f"""
import pathlib, random, shutil
def write(path, seed):
    path = pathlib.Path("/", path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(seed).randbytes(3_000_000))
write("usr/lib/framework.so", 0)
write("{FACENET}", 1)
write("{REMOVED}", 2)
write("{PARAMETERS}", 3)
real = pathlib.Path("/weights/arcface_mobilefacenet")
if real.is_dir():
    shutil.copyfile(next(real.glob("*.params")), "/{PARAMETERS}")
"""
DOCKERFILE = f"""
FROM {BASE}
WORKDIR /app/ml
COPY setup.py src/services/facescan/plugins/
RUN --mount=type=bind,from=weights,target=/weights python -m src.services.facescan.plugins.setup
RUN rm /{REMOVED}
COPY setup.py src/app.py
CMD ["python"]
"""


class Watched:
    """The progress bars of a fetch, and what it noted."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.notes: list[str] = []

    @contextmanager
    def progress(self, label: str, total: float | None) -> Iterator[Callable[[float], None]]:
        self.labels.append(label)
        yield lambda amount: None


@pytest.fixture(scope="module")
def image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """An image laid out as upstream's, pushed to the local registry."""
    try:
        urllib.request.urlopen(f"http://{LOCAL_REGISTRY}/v2/", timeout=3).close()
    except OSError:
        pytest.skip(f"no registry answers at {LOCAL_REGISTRY}")
    folder = tmp_path_factory.mktemp("upstream")
    (folder / "setup.py").write_text(SETUP)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    weights = tmp_path_factory.mktemp("empty") if SHARED is None else SHARED / "models"
    repository = f"{REGISTRY}upstream-{uuid.uuid4().hex[:8]}"
    name = f"{LOCAL_REGISTRY}/{repository}:1.2.0"
    docker.build(folder, name, f"--build-context=weights={weights}")
    said = docker("push", name)
    digest = re.search(r"digest: (sha256:[0-9a-f]{64})", said)
    assert digest, said
    return Reference(LOCAL_REGISTRY, repository, digest[1], HINT)


def get(
    reference: Reference,
    folder: Path,
    *paths: str,
    local: Callable[[str, str], AbstractContextManager[registry.Readable | None]] | None = None,
) -> Watched:
    watched = Watched()
    registry.fetch(
        reference, {path: folder / str(number) for number, path in enumerate(paths)},
        progress=watched.progress, note=watched.notes.append, folder=folder / "layers", local=local,
    )  # fmt: skip
    assert not [path for path in (folder / "layers").glob("**/*") if path.is_file()]
    return watched


def parameters() -> str:
    """The SHA-256 of the file that the image was given."""
    real = sorted((SHARED / "models" / "arcface_mobilefacenet").glob("*.params")) if SHARED else []
    data = real[0].read_bytes() if real else random.Random(3).randbytes(3_000_000)
    return hashlib.sha256(data).hexdigest()


def test_files_are_read_out_of_a_real_registry_without_docker(
    image: Reference, tmp_path: Path
) -> None:
    watched = get(image, tmp_path, FACENET, PARAMETERS.replace("model-0000", "*"))
    assert (tmp_path / "0").read_bytes() == random.Random(1).randbytes(3_000_000)
    assert hashlib.sha256((tmp_path / "1").read_bytes()).hexdigest() == parameters()
    assert len([label for label in watched.labels if label.startswith("downloading")]) == 1
    assert watched.notes == []


def test_the_copy_that_docker_has_is_used(docker: Docker, image: Reference, tmp_path: Path) -> None:
    watched = get(image, tmp_path, FACENET, PARAMETERS, local=image_files.opened)
    assert (tmp_path / "0").read_bytes() == random.Random(1).randbytes(3_000_000)
    assert hashlib.sha256((tmp_path / "1").read_bytes()).hexdigest() == parameters()
    assert not [label for label in watched.labels if label.startswith("downloading")]
    assert docker("ps", "--all", "--quiet", f"--filter=label={LABEL_COPY}") == ""


def test_a_path_that_dockers_copy_lacks_comes_from_the_registry(
    docker: Docker, image: Reference, tmp_path: Path
) -> None:
    watched = get(image, tmp_path, REMOVED, local=image_files.opened)
    assert (tmp_path / "0").read_bytes() == random.Random(2).randbytes(3_000_000)
    assert any(image.digest in note for note in watched.notes)
    absent = Reference(image.registry, image.repository, image.digest)
    folder = MODELS.replace(".models", ".absent")
    with pytest.raises(FetchError):
        get(absent, tmp_path, f"{folder}/x.pb", local=image_files.opened)
    assert docker("ps", "--all", "--quiet", f"--filter=label={LABEL_COPY}") == ""


@contextmanager
def with_a_login(folder: Path) -> Iterator[str]:
    """A registry that serves the user `me` with the password `secret` only; its host and port."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("the program docker-registry is absent")
    host = f"127.0.0.1:{free_port()}"
    (folder / "users").write_text(f"me:{SECRET}\n")
    (folder / "registry.yml").write_text(
        f"version: 0.1\nhttp: {{addr: '{host}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/store}}}}\n"
        f"auth: {{htpasswd: {{realm: tests, path: {folder}/users}}}}\n"
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


def test_a_registry_with_a_login_is_read_with_that_of_docker(
    docker: Docker, image: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with with_a_login(tmp_path) as host:
        name = f"{host}/{image.repository}:1.2.0"
        docker("tag", f"{LOCAL_REGISTRY}/{image.repository}:1.2.0", name)
        docker.own.append(name)
        docker("login", "--username=me", "--password=secret", host)
        docker("push", name)
        private = replace(image, registry=host)
        get(private, tmp_path, FACENET)
        assert (tmp_path / "0").read_bytes() == random.Random(1).randbytes(3_000_000)
        docker("logout", host)
        with pytest.raises(FetchError) as caught:
            get(private, tmp_path, FACENET)
    assert caught.value.details["status"] == 401
    assert f"docker login {host}" in (caught.value.hint or "")


def test_an_image_that_docker_does_not_have_comes_from_the_registry(
    image: Reference, tmp_path: Path
) -> None:
    with image_files.opened(f"{LOCAL_REGISTRY}/absent@{image.digest}", "/app") as stream:
        assert stream is None


def test_a_file_that_a_layer_removes_is_missing(image: Reference, tmp_path: Path) -> None:
    whole = Reference(image.registry, image.repository, image.digest)
    with pytest.raises(FetchError) as caught:
        get(whole, tmp_path, REMOVED)
    assert REMOVED in caught.value.message
    get(whole, tmp_path, FACENET)
    assert (tmp_path / "0").read_bytes() == random.Random(1).randbytes(3_000_000)
