"""`cf rm` and `cf prune` where no Docker answers: what they ask for, remove and leave alone."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compreface_cli.config import paths
from compreface_cli.docker.labels import LABEL_BUILD
from compreface_cli.engine import venv
from compreface_cli.instance.records import Instances, Phase, Record
from compreface_cli.launchers.supervisor import start_time
from tests.cli.fake_docker_socket import daemon, http
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named
from tests.shared import ROOT

IMAGE_TAG = "compreface-core:embedded-12345678"
BUILD = """schema: 1
name: mine
detector: embedded.FaceDetector@mtcnn
calculator: embedded.Calculator@mobilefacenet192
"""


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.fixture
def file(cf: Cf) -> Path:
    """The user's own build `mine`."""
    path = paths.user_builds() / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(BUILD)
    return path


def record(phase: Phase = "stopped", *, launcher: str = "process", **more: str) -> Path:
    """The record of the instance `mine`; its folder."""
    store = Instances(paths.instances_dir())
    deployment = {
        "launcher": launcher,
        "instance": "mine",
        "engine": {"bind": "127.0.0.1", "port": 9},
        "ui": None,
        "data": {"folder": str(store.home("mine") / "engine-1234")},
    }
    rest = {"calculator": "one", "services": "core", "created": "2026-01-01T00:00:00+00:00"}
    given = {"name": "mine", "build": "mine", **rest, **more}
    store.save(Record(phase=phase, deployment=deployment, **given))  # type: ignore[arg-type]
    return store.home("mine")


def test_a_users_build_is_removed_when_its_name_is_confirmed(cf: Cf, file: Path) -> None:
    asked = cf("rm", "mine")
    assert (asked.code, file.exists()) == (2, True)
    assert "--confirm mine" in asked.err
    assert str(file) in asked.err  # what would go, and how large it is
    assert cf("rm", "mine", "--json").document["error"]["exit_code"] == 2
    assert cf("rm", "mine", "--confirm", "other").code == 2
    planned = cf("rm", "mine", "--dry-run", "--json").document
    assert (planned["change"], file.exists()) == ("dry run", True)
    done = cf("rm", "mine", "--confirm", "mine", "--json").document
    assert [(one["kind"], one["name"]) for one in done["removed"]] == [("build file", str(file))]
    assert not file.exists()
    again = cf("rm", "mine", "--confirm", "mine")
    assert (again.code, "cf list-builds" in again.err) == (3, True)


def test_a_bundled_build_is_kept(cf: Cf) -> None:
    done = cf("rm", "embedded", "--confirm", "embedded")
    assert done.code == 0
    assert_named(done.out.splitlines()[0], "'embedded'")
    planned = cf("rm", "embedded", "--dry-run")
    assert planned.code == 0
    assert_named(planned.out, "'embedded'")
    assert "Docker" in planned.out  # whose images were not looked for
    assert cf("show", "embedded").code == 0


def test_a_build_in_the_place_of_a_bundled_one_takes_no_image_with_it(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image bears the build's name only, so it may be the bundled build's."""
    labels = {LABEL_BUILD: "embedded"}
    rows = [{"Id": "sha256:1", "RepoTags": [IMAGE_TAG], "Size": 5, "Labels": labels}]

    def answer(target: str) -> bytes:
        return http(rows if "images/json" in target else [])

    path = paths.user_builds() / "embedded.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(BUILD.replace("mine", "embedded"))
    with daemon(tmp_path / "s", answer) as (address, _):
        monkeypatch.setenv("DOCKER_HOST", address)
        done = cf("rm", "--build", "embedded", "--confirm", "embedded", "--json")
        assert done.code == 0, done.out
        assert [each["kind"] for each in done.document["removed"]] == ["build file"]
        assert [each["name"] for each in done.document["kept"]] == [IMAGE_TAG]
        planned = cf("rm", "--build", "embedded", "--dry-run", "--json").document
        assert [each["name"] for each in planned["removed"]] == [IMAGE_TAG]
    assert not path.exists()


def test_a_name_of_an_instance_and_a_build_is_not_guessed(cf: Cf, file: Path) -> None:
    home = record(build="embedded")
    both = cf("rm", "mine", "--confirm", "mine")
    assert both.code == 2
    assert "cf rm --instance mine" in both.err
    assert "cf rm --build mine" in both.err
    assert cf("rm", "--instance", "mine", "--confirm", "mine").code == 0
    assert (home.exists(), file.exists()) == (False, True)
    home = record(build="embedded")
    assert cf("rm", "--build", "mine", "--confirm", "mine").code == 0
    assert (home.exists(), file.exists()) == (True, False)


def test_what_is_in_use_is_named_and_stays(cf: Cf, file: Path) -> None:
    record("running")
    told = cf("rm", "--instance", "mine", "--confirm", "mine")
    assert (told.code, "cf down mine" in told.err) == (4, True)
    told = cf("rm", "--build", "mine", "--confirm", "mine")
    assert (told.code, "cf down mine" in told.err) == (4, True)
    assert file.exists()


def test_an_instance_whose_data_cannot_be_looked_up_is_kept(cf: Cf) -> None:
    """Its volume may be there, and its password is in the folder."""
    folder = paths.project_dir("mine")
    folder.mkdir(parents=True)
    assert cf("rm", "mine", "--confirm", "mine").code == 6
    assert folder.is_dir()


@pytest.fixture
def alive() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


def test_a_damaged_record_goes_once_its_engine_has_ended(cf: Cf, alive: int) -> None:
    home = record("running")
    (home / "instance.json").write_text("{")
    (home / "engine-1").mkdir()
    state = f'{{"supervisor": null, "child": {{"pid": {alive}, "started": "{start_time(alive)}"}}}}'
    (home / "engine-1" / "state.json").write_text(state)
    assert cf("rm", "mine", "--confirm", "mine").code == 3
    assert home.is_dir()
    (home / "engine-1" / "state.json").unlink()
    assert cf("rm", "mine", "--confirm", "mine").code == 0
    assert not home.exists()


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [("mine\n", 0, "removed"), ("yes\n", 2, "Nothing was removed"), ("\x03", 130, "interrupted")],
)
def test_at_a_terminal_the_name_is_typed(
    cf: Cf, file: Path, typed: str, code: int, said: str
) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "compreface_cli.cli", "rm", "mine"])  # noqa: S606
    seen = b""
    while b"to remove it: " not in seen:
        seen += os.read(terminal, 4096)
    os.write(terminal, typed.encode())
    try:
        while part := os.read(terminal, 4096):
            seen += part
    except OSError:  # how a terminal ends
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == code
    assert said in seen.decode()
    assert file.exists() == (code != 0)


def test_what_no_build_and_no_instance_uses_is_pruned(cf: Cf, file: Path) -> None:
    models, weights = paths.models_dir(), paths.cache_dir() / "weights"
    environments = paths.data_dir() / "engine-env"
    wanted = "20180402-114759"  # of the build facenet
    for folder in (
        models / "old-model",
        models / wanted,
        weights / "old-model",
        environments / "0123456789abcdef",
        environments / venv.inputs("cpu").key(),
        paths.instances_dir() / "half-made",
    ):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(200_000))
    home = record()
    gone = [
        environments / "0123456789abcdef",
        models / "old-model",
        weights / "old-model",
        paths.instances_dir() / "half-made",
    ]

    def names(*arguments: str) -> list[str]:
        return [one["name"] for one in cf("prune", "--json", *arguments).document["removed"]]

    planned = cf("prune", "--dry-run")
    assert all(str(path) in planned.out for path in gone)
    assert "205 kB" in planned.out
    assert names("--dry-run") == [str(path) for path in gone]
    asked = cf("prune")
    assert (asked.code, "--yes" in asked.err) == (2, True)

    broken = file.read_text().replace("mobilefacenet192", "old-model")
    file.write_text(f"{broken}colour: red\n")  # it may be meant by what cannot be read
    assert names("--dry-run") == [str(path) for path in gone if path.name != "old-model"]
    file.write_text(BUILD)
    (home / "instance.json").write_text("{")  # nobody knows what that one uses
    assert names("--dry-run") == [str(gone[-1])]
    record()

    assert names("--yes") == [str(path) for path in gone]
    assert not any(path.exists() for path in gone)
    assert (models / wanted).is_dir()
    assert home.is_dir()
    assert file.exists()
    assert names("--yes") == []
