"""What `cf` makes of a docker program that fails: the cause, the way out, and no process left."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compreface_cli.cleanup import interruptible
from compreface_cli.docker import cli, image
from compreface_cli.docker.labels import LABEL_RENDER
from compreface_cli.errors import (
    CfError,
    ConflictError,
    DockerError,
    FetchError,
    HardwareError,
    Interruption,
    UnhealthyError,
)
from tests.cli.fake_docker import FakeDocker, fake_docker

TAG = "compreface-core:test-1"
STEP = "#5 [2/2] RUN python3 -m pip install numpy"
TAIL = """------
 > [2/2] RUN python3 -m pip install numpy:
------
Dockerfile:2
--------------------
ERROR: failed to solve: process "/bin/sh -c python3" did not complete successfully: exit code: 1
"""


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with fake_docker(tmp_path / "fake") as fake:
        yield fake


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "core"
    (folder / "models").mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM base\n")
    (folder / "models" / "model.onnx").write_bytes(b"weights")
    return folder


def present(docker: FakeDocker, identity: str, label: str) -> None:
    row = {
        "Id": identity,
        "Size": 5,
        "Config": {"Labels": {LABEL_RENDER: label}},
        "RepoDigests": [],
    }
    docker.holds[f"/images/{TAG}/json"] = row


def log_of_a_failed_step(*lines: str) -> str:
    own = "".join(f"#5 1.{number} {line}\n" for number, line in enumerate(lines))
    return f'{STEP}\n{own}#5 ERROR: process "x" did not complete: exit code: 1\n{TAIL}'


@pytest.mark.parametrize(
    ("lines", "kind", "cause"),
    [
        (["OSError: [Errno 28] No space left on device"], DockerError, "disk"),
        (["tar: write error: no space left on device"], DockerError, "disk"),
        (["ERROR: No matching distribution found for numpy==2.0.0"], FetchError, "network"),
        (["Temporary failure in name resolution"], FetchError, "network"),
        (["ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"], FetchError, "hash"),
        (["SyntaxError: invalid syntax"], CfError, "exit code"),
    ],
)
def test_a_failed_build_names_step_cause_and_last_lines(
    docker: FakeDocker, context: Path, lines: list[str], kind: type[CfError], cause: str
) -> None:
    docker.answers("build", out=log_of_a_failed_step("before", *lines), code=1)
    with pytest.raises(kind) as failed:
        image.build(context, TAG, report=lambda line: None)
    assert type(failed.value) is kind
    assert "RUN python3 -m pip install numpy" in failed.value.message
    assert cause in failed.value.message
    assert lines[-1] in failed.value.message
    assert failed.value.hint


def test_a_base_image_that_cannot_be_pulled_is_a_fetch_error(
    docker: FakeDocker, context: Path
) -> None:
    said = "#2 ERROR: failed to do request: Head: no such host\nERROR: failed to solve: base:9: "
    said += "failed to resolve source metadata for registry.example/base:9: no such host\n"
    docker.answers("build", out=said, code=1)
    with pytest.raises(FetchError, match="no such host"):
        image.build(context, TAG, report=lambda line: None)


def test_each_finished_step_is_reported_with_its_number_and_time(
    docker: FakeDocker, context: Path
) -> None:
    present(docker, "sha256:new", "")
    (context / "Dockerfile").write_text(
        "FROM base AS one\nRUN pip \\\n    install numpy\n"
        "FROM base\nCOPY --from=one /a /b\nENV A=B\n"
    )
    docker.answers(
        "build",
        out="#1 [internal] load build definition\n#1 DONE 0.1s\n"
        "#4 [one 1/2] FROM base\n#4 CACHED\n"
        "#5 [one 2/2] RUN pip     install numpy\n#5 ...\n"
        "#6 [stage-1 2/2] COPY --from=one /a /b\n#6 DONE 0.0s\n"
        "#5 [one 2/2] RUN pip     install numpy\n#5 3.1 Collecting\n#5 DONE 12.7s\n"
        "#5 [one 2/2] RUN pip     install numpy\n"
        "#7 exporting to image\n#7 DONE 0.2s\n",
    )
    said: list[str] = []
    labels: list[str] = []

    @contextmanager
    def waiting(label: str) -> Iterator[Callable[[str], None]]:
        labels.append(label)
        yield labels.append

    image.build(context, TAG, report=said.append, waiting=waiting)
    assert said == [
        "  1/3  FROM base  (cached)",
        "  2/3  COPY --from=one /a /b  (0 s)",
        "  3/3  RUN pip install numpy  (12 s)",
    ]
    assert labels[0] == f"building the image {TAG}"
    assert f"{TAG}: 1 of 3 steps  RUN pip install numpy" in labels
    assert labels[-1] == f"{TAG}: 3 of 3 steps"


def test_any_changed_file_needs_a_new_image(context: Path) -> None:
    made_from = image.fingerprint(context)
    (context / "models" / "model.onnx").write_bytes(b"weightz")
    assert image.fingerprint(context) != made_from
    (context / "models" / "model.onnx").write_bytes(b"weights")
    assert image.fingerprint(context) == made_from
    (context / "models" / "model.onnx").rename(context / "models" / "other.onnx")
    assert image.fingerprint(context) != made_from


def test_the_fingerprint_of_a_project_that_is_not_written_is_that_of_its_folder(
    context: Path,
) -> None:
    hashes = {
        f"core/{path.relative_to(context)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in context.rglob("*")
        if path.is_file()
    }
    project = {**hashes, "compose.yaml": "0" * 64}
    assert image.fingerprint_of(project) == image.fingerprint(context)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Cannot connect to the Docker daemon at unix:///x. Is it running?", DockerError),
        ("permission denied while trying to connect to the Docker daemon socket", DockerError),
        ("listen tcp4 127.0.0.1:3100: bind: address already in use", ConflictError),
        ("Bind for 127.0.0.1:3100 failed: port is already allocated", ConflictError),
        ('Conflict. The container name "/x" is already in use by container "1"', ConflictError),
        ('could not select device driver "nvidia" with capabilities: [[gpu]]', HardwareError),
        ("Range of CPUs is from 0.01 to 2.00, as there are only 2 available", HardwareError),
        ("No such image: exadel/compreface-core:9.9", FetchError),
        ("dependency failed to start: container x-core-1 is unhealthy", UnhealthyError),
        ("container crash-core-1 exited (3)", UnhealthyError),
    ],
)
def test_an_error_of_docker_gets_a_hint(docker: FakeDocker, said: str, kind: type[CfError]) -> None:
    docker.answers("compose", err=f"{said}\n", code=1)
    with pytest.raises(kind) as failed:
        cli.run("compose", "up", doing="start it")
    assert said in failed.value.message
    assert failed.value.hint


def test_a_missing_docker_program_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DockerError, match="`docker`"):
        cli.run("version", doing="ask")


def test_a_command_that_hangs_is_ended(docker: FakeDocker) -> None:
    docker.answers("info", seconds=60)
    with pytest.raises(DockerError, match=r"0\.5 s"):
        cli.run("info", doing="ask", timeout_s=0.5)
    assert docker.ended_by == "SIGINT"


def test_an_error_of_the_watch_ends_the_command(docker: FakeDocker) -> None:
    docker.answers("compose", seconds=60)
    with pytest.raises(UnhealthyError, match="hopeless"):
        cli.run("compose", "up", doing="x", watch=lambda: UnhealthyError("hopeless"))
    assert docker.ended_by == "SIGINT"


@pytest.mark.parametrize("listening", [False, True])
def test_an_interruption_ends_the_child_first(docker: FakeDocker, listening: bool) -> None:
    docker.answers("build", out="#1 begun\n", seconds=60)

    def interrupt() -> None:
        while not docker.asked():
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    def build() -> None:
        with interruptible():
            cli.run("build", doing="x", on_line=(lambda line: None) if listening else None)

    other = threading.Thread(target=interrupt)
    other.start()
    with pytest.raises(Interruption):
        build()
    other.join()
    assert docker.ended_by == "SIGINT"
