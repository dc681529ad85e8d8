"""Images are pulled side by side; what fails is named, and a signal ends all of them."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from compreface_cli.cleanup import interruptible
from compreface_cli.docker import image, pulls
from compreface_cli.errors import CfError, FetchError, Interruption
from tests.cli.fake_docker import FakeDocker, fake_docker
from tests.cli.local_cf import eventually

# Each pull waits for the others, and fails if they do not begin meanwhile.
_WAITS_FOR_OTHERS = """#!{python}
import pathlib, sys, time
home = pathlib.Path({home!r})
(home / ("pull-" + sys.argv[-1].replace("/", "_"))).touch()
end = time.monotonic() + 30
while len(list(home.glob("pull-*"))) < {count}:
    if time.monotonic() > end:
        sys.exit("the others have not begun")
    time.sleep(0.02)
"""


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with fake_docker(tmp_path / "fake") as fake:
        yield fake


def pulled(docker: FakeDocker, *names: str) -> list[image.Image]:
    """Pull them; the engine has each from then on, except for those that fail."""
    shown: list[str] = []

    def waiting(label: str) -> AbstractContextManager[object]:
        shown.append(label)
        name = label.rpartition(" ")[2]
        docker.holds[f"/images/{name}/json"] = {"Id": f"sha256:{name}", "Config": {}}
        return nullcontext(lambda text: None)

    made = pulls.obtain_all(names, report=lambda line: None, waiting=waiting)  # type: ignore[arg-type]
    assert sorted(shown) == sorted(f"pulling {name}" for name in names)
    return made


def test_images_are_pulled_side_by_side(docker: FakeDocker) -> None:
    names = [f"corp/{number}:1" for number in range(pulls.AT_ONCE)]
    program = docker.home / "bin" / "docker"
    text = _WAITS_FOR_OTHERS.format(python=sys.executable, home=str(docker.home), count=len(names))
    program.write_text(text)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert [made.id for made in pulled(docker, *names)] == [f"sha256:{name}" for name in names]


def test_no_more_than_some_at_once(docker: FakeDocker) -> None:
    docker.answers("pull", seconds=0.2)
    names = [f"corp/{number}:1" for number in range(pulls.AT_ONCE + 3)]
    running, most, lock = 0, 0, threading.Lock()
    one = image.obtain

    def counted(name: str, **rest: object) -> image.Image:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return one(name, **rest)  # type: ignore[arg-type]
        finally:
            with lock:
                running -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pulls, "obtain", counted)
        assert len(pulled(docker, *names)) == len(names)
    assert most == pulls.AT_ONCE


def test_every_image_that_cannot_be_pulled_is_named_once_the_others_are_here(
    docker: FakeDocker,
) -> None:
    for name in ("corp/a:1", "corp/b:1"):
        said = f"Error response from daemon: manifest for {name} not found: manifest unknown"
        docker.answers("pull", "--quiet", name, err=said, code=1)
    docker.answers("pull", "--quiet", "corp/c:1", seconds=1)
    with pytest.raises(FetchError) as caught:
        pulled(docker, "corp/a:1", "corp/b:1", "corp/c:1")
    assert all(name in caught.value.message for name in ("corp/a:1", "corp/b:1"))
    assert "corp/c:1" not in caught.value.message
    assert [error["exit_code"] for error in caught.value.details["errors"]] == [9, 9]
    assert docker.ended_by == ""


def test_one_failure_is_told_as_it_is(docker: FakeDocker) -> None:
    docker.answers("pull", "--quiet", "corp/a:1", err="manifest unknown", code=1)
    with pytest.raises(CfError) as caught:
        pulled(docker, "corp/a:1", "corp/b:1")
    assert "errors" not in caught.value.details


def test_a_signal_ends_all_pulls(docker: FakeDocker) -> None:
    docker.answers("pull", seconds=60)
    began = time.monotonic()

    def interrupt() -> None:
        eventually(lambda: len(docker.asked()) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(Interruption), interruptible():
        pulled(docker, "corp/a:1", "corp/b:1")
    assert docker.ended_by == "SIGINT"
    assert time.monotonic() - began < 45
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pull")]
