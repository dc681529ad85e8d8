"""Files are copied out of a local image, and nothing of it is left, whatever Docker does."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compreface_cli.docker import image_files
from compreface_cli.docker.labels import LABEL_COPY
from compreface_cli.errors import CfError, DockerError
from tests.cli.fake_docker import FakeDocker, fake_docker
from tests.cli.lying_registry import Member, tar

NAME = "docker.io/exadel/compreface-core@sha256:" + "0" * 64
FOLDER = "/app/ml/.models"
CONTENT = tar(Member(".models/a.pb", b"weights"))


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    """A Docker that has the image."""
    with fake_docker(tmp_path) as docker:
        docker.holds[f"/images/{NAME}/json"] = {"Id": "sha256:1", "RepoTags": [], "Size": 5}
        docker.holds["/containers/json"] = []
        docker.answers("create", out="Downloading something\nmade\n")
        docker.answers("cp", out=CONTENT.decode())
        yield docker


def copied() -> bytes | None:
    with image_files.opened(NAME, FOLDER) as stream:
        if stream is None:
            return None
        with tarfile.open(fileobj=io.BytesIO(stream.read())) as archive:
            member = archive.extractfile(".models/a.pb")
            assert member is not None
            return member.read()


def test_a_folder_comes_as_a_tar_stream_and_the_container_is_removed(docker: FakeDocker) -> None:
    assert copied() == b"weights"
    made, *rest = docker.asked()
    assert (made[0], made[-2:]) == ("create", ["sha256:1", "none"])
    assert f"--label={LABEL_COPY}" in made
    assert rest == [["cp", f"made:{FOLDER}", "-"], ["rm", "--force", "--volumes", "made"]]


def test_an_image_that_is_not_here_gives_nothing(docker: FakeDocker) -> None:
    del docker.holds[f"/images/{NAME}/json"]
    assert copied() is None
    assert docker.asked() == []


def test_without_docker_there_is_nothing_and_no_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    began = time.monotonic()
    assert copied() is None
    assert time.monotonic() - began < 2


def test_a_failed_copy_is_an_error_with_dockers_reason(docker: FakeDocker) -> None:
    docker.answers("cp", err="Could not find the file /app in container made", code=1)
    with pytest.raises(CfError) as caught:
        copied()
    assert "Could not find the file" in caught.value.message
    assert docker.was_asked(["rm", "--force", "--volumes", "made"])


def test_an_error_of_the_reader_ends_the_copy(docker: FakeDocker) -> None:
    docker.answers("cp", out="x", seconds=60)
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError), image_files.opened(NAME, FOLDER):
        raise ZeroDivisionError
    assert time.monotonic() - began < 30
    assert docker.ended_by == "SIGINT"
    assert docker.was_asked(["rm", "--force", "--volumes", "made"])


def test_a_copy_that_stalls_is_ended(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "_COPY_S", 1.0)
    docker.answers("cp", out="x", seconds=60)
    with pytest.raises(DockerError) as caught:
        copied()
    assert caught.value.details == {"timed_out": True}
    assert docker.was_asked(["rm", "--force", "--volumes", "made"])


def test_a_container_of_a_killed_run_is_removed(docker: FakeDocker) -> None:
    now = time.time()
    docker.holds["/containers/json"] = [
        {"Id": name, "Created": now - age, "Labels": {LABEL_COPY: ""}, "State": "created"}
        for name, age in (("old", 90_000), ("of-another-cf", 60))
    ]
    copied()
    removed = [asked[-1] for asked in docker.asked() if asked[0] == "rm"]
    assert removed == ["old", "made"]
