"""`cf build` where no Docker is: what the flags made is kept, refused or rendered all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.build_files import build_data, text
from tests.cli.names import assert_named
from tests.shared import ROOT


class LonelyCf:
    """`cf` in an empty folder and home, with a PATH on which no docker program stands."""

    def __init__(self, folder: Path) -> None:
        self.here, self.home, self.programs = folder / "here", folder / "home", folder / "bin"
        for path in (self.here, self.home, self.programs):
            path.mkdir()

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "compreface_cli.cli", *arguments],
            capture_output=True,
            text=True,
            cwd=self.here,
            env={
                "HOME": str(self.home),
                "PATH": str(self.programs),
                "PYTHONPATH": str(ROOT),
                "NO_COLOR": "1",
                "LANG": os.environ.get("LANG", "C.UTF-8"),
                "DOCKER_HOST": "unix:///nowhere/docker.sock",
            },
            timeout=60,
            check=False,
        )

    def kept(self, name: str = "custom-build") -> Path:
        return self.home / ".local" / "share" / "compreface-cli" / "builds" / f"{name}.yaml"

    def rendered(self, build: str) -> dict[str, Any]:
        """The engine's service, and the text of its Dockerfile under `dockerfile`."""
        folder = self.here / "rendered"
        done = self("render", build, "-o", str(folder))
        assert done.returncode == 0, done.stderr
        document = yaml.safe_load((folder / "compose.yaml").read_text())
        service: dict[str, Any] = document["services"]["compreface-core"]
        return {**service, "dockerfile": (folder / "core" / "Dockerfile").read_text()}


@pytest.fixture
def cf(tmp_path: Path) -> LonelyCf:
    return LonelyCf(tmp_path)


def test_without_docker_the_build_file_is_kept_and_the_way_out_named(cf: LonelyCf) -> None:
    done = cf("build", "--gpu")
    assert done.returncode == 6, done.stderr
    assert "docker" in done.stderr.lower()
    assert "--launcher process" in done.stderr
    assert str(cf.kept()) in done.stderr
    assert yaml.safe_load(cf.kept().read_text())["device"] == "cuda"


def test_without_docker_the_json_answer_is_the_error(cf: LonelyCf) -> None:
    done = cf("build", "--gpu", "--json")
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == done.returncode == 6
    assert error["details"]["kept"] == str(cf.kept())


def test_builds_of_the_folder_are_kept_beside_each_other(cf: LonelyCf) -> None:
    (cf.here / "builds").mkdir()
    cf("build", "--name", "mine", "--plugin", "facenet.PoseEstimator")
    written = yaml.safe_load((cf.here / "builds" / "mine.yaml").read_text())
    assert written["name"] == "mine"
    assert written["plugins"] == ["facenet.PoseEstimator"]
    assert not cf.kept("mine").exists()


def test_a_name_that_hides_a_bundled_build_is_reported(cf: LonelyCf) -> None:
    said = cf("build", "embedded", "--name", "embedded", "--runtime", "openvino").stderr
    assert_named(said, "warning: embedded ")
    assert "warning: " not in cf("build", "--name", "mine", "--runtime", "openvino").stderr


def test_a_file_that_cf_wrote_is_replaced(cf: LonelyCf) -> None:
    cf("build", "--gpu")
    cf("build", "--plugin", "facenet.PoseEstimator")
    written = yaml.safe_load(cf.kept().read_text())
    assert "device" not in written
    assert written["plugins"] == ["facenet.PoseEstimator"]


def test_a_file_that_was_edited_by_hand_is_refused_with_a_diff(cf: LonelyCf) -> None:
    cf("build", "--gpu")
    edited = cf.kept().read_text().replace("device: cuda", "device: cpu")
    cf.kept().write_text(edited)
    done = cf("build", "--gpu")
    assert done.returncode == 4, done.stderr
    assert "-device: cpu" in done.stderr
    assert "+device: cuda" in done.stderr
    assert cf.kept().read_text() == edited


def test_a_gpu_index_ends_in_the_reservation_and_in_the_engine(cf: LonelyCf) -> None:
    cf("build", "--gpu-index", "2")
    service = cf.rendered("custom-build")
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["device_ids"] == ["2"]
    assert device["capabilities"] == ["gpu"]
    assert "gpus" not in service
    # Of what was reserved the engine sees one GPU, and takes that.
    assert service["environment"]["GPU_IDX"] == "0"
    assert 'ENV GPU_IDX="2"' in service["dockerfile"]


def test_a_build_that_cannot_run_is_refused_before_docker_is_asked(cf: LonelyCf) -> None:
    done = cf("build", "embedded", "--calculator", "insightface.Calculator@arcface_resnet34")
    assert done.returncode == 9, done.stderr
    assert_named(done.stderr, "model arcface_resnet34")


def test_an_unknown_plugin_is_named_with_what_was_meant(cf: LonelyCf) -> None:
    done = cf("build", "--detector", "embedded.FaceDetecter@mtcnn")
    assert done.returncode == 3, done.stderr
    assert "embedded.FaceDetector@mtcnn" in done.stderr


def test_flags_win_over_the_environment(cf: LonelyCf) -> None:
    other = "tests-own/base:1"
    cf("build", "--base-image", other)
    assert f"ARG BASE_IMAGE={other}" in cf.rendered("custom-build")["dockerfile"]


def test_a_calculator_without_its_model_leaves_nothing_and_shows_the_entry(cf: LonelyCf) -> None:
    (cf.here / "builds").mkdir()
    flags = ("--calculator", "custom.Calculator@my-model", "--name", "my-build")
    done = cf("build", *flags)
    assert done.returncode == 3, done.stderr
    assert "kept" not in done.stderr
    assert "\nmodels:\n  - name: my-model\n" in done.stderr
    assert list((cf.here / "builds").iterdir()) == []

    own = cf.here / "builds" / "my-build.yaml"
    own.write_text(text(build_data()))
    own.with_name("my-model.onnx").write_text("x")
    again = cf("build", "my-build")
    assert again.returncode == 6, again.stderr  # all is well but for Docker
    refused = cf("build", *flags)
    assert refused.returncode == 4, refused.stderr
    assert "-models:" in refused.stderr
    assert own.read_text() == text(build_data())


def test_flags_upon_a_build_whose_models_are_out_of_reach_leave_nothing(cf: LonelyCf) -> None:
    done = cf("build", "--calculator", "insightface.Calculator@arcface_resnet34", "--gpu")
    assert done.returncode == 9, done.stderr
    assert_named(done.stderr, "model arcface_resnet34")
    assert not cf.kept().exists()
    done = cf("build", "--plugin", "insightface.Landmarks2d106Detector")
    assert done.returncode == 9, done.stderr
    assert_named(done.stderr, "model 2d106det", "--accept-hash 2d106det=SHA256")
    assert not cf.kept().exists()


@pytest.mark.parametrize(
    "flags", [("--name", "My Build"), ("--base-image", "Bad Image"), ("--runtime", "foo")]
)
def test_a_bad_flag_is_usage_and_leaves_nothing(cf: LonelyCf, flags: tuple[str, str]) -> None:
    done = cf("build", *flags)
    assert done.returncode == 2, done.stderr
    assert flags[0] in done.stderr
    assert not cf.kept().parent.exists()


@pytest.mark.parametrize("tag", ["Bad Tag", "name:", "a//b", "name:tag:tag", "UPPER", "x@sha256:1"])
def test_an_invalid_tag_is_a_usage_error_before_anything_is_built(cf: LonelyCf, tag: str) -> None:
    done = cf("build", "--tag", "good/name:1", "--tag", tag, "--runtime", "openvino")
    assert done.returncode == 2, done.stderr
    assert_named(done.stderr, f"flag --tag: {tag!r}")
    assert not cf.kept().exists()


@pytest.mark.parametrize("tags", [(), ("--tag", "engine:1")])
def test_a_push_to_no_registry_is_usage_before_anything_is_built(
    cf: LonelyCf, tags: tuple[str, ...]
) -> None:
    done = cf("build", "--push", *tags)
    assert done.returncode == 2, done.stderr
    assert_named(done.stderr, "flag --push", "--push-to REGISTRY/FOLDER", "--tag REGISTRY/NAME:TAG")


@pytest.mark.parametrize(
    "place", ["faces", "https://hub.example/faces", "hub.example/Faces", "hub.example//x", "user/x"]
)
def test_a_place_that_is_no_registry_is_usage(cf: LonelyCf, place: str) -> None:
    done = cf("build", "--push-to", place)
    assert done.returncode == 2, done.stderr
    assert_named(done.stderr, "flag --push-to", place)
    assert not cf.kept().exists()


@pytest.mark.parametrize(
    "place", ["localhost/a", "127.0.0.1:5000", "[::1]:5000/a/b-c", "docker.io/user", "hub:5000/x/"]
)
def test_a_registry_and_a_folder_go_on_to_docker(cf: LonelyCf, place: str) -> None:
    assert cf("build", "--push-to", place).returncode == 6


@pytest.mark.parametrize(
    "tag", ["a/b", "localhost:5000/a_b/c__d:V1.2", "[::1]:5000/x", "Reg.example/x", "engine"]
)
def test_a_tag_that_is_a_name_goes_on_to_docker(cf: LonelyCf, tag: str) -> None:
    assert cf("build", "--tag", tag).returncode == 6


def test_a_build_that_worked_stays_where_the_docker_engine_does_not_run(cf: LonelyCf) -> None:
    program = cf.programs / "docker"
    program.write_text("#!/bin/sh\necho 2.26.1\n")
    program.chmod(0o755)
    first = cf("build", "--runtime", "openvino")
    assert first.returncode == 6, first.stderr
    assert_named(first.stderr, cf.kept())
    former = cf.kept().read_text()
    again = cf("build", "--plugin", "facenet.PoseEstimator")
    assert again.returncode == 6, again.stderr
    assert_named(again.stderr, "custom-build", cf.kept())
    assert cf.kept().read_text() == former
    program.unlink()
    without = cf("build", "--plugin", "facenet.PoseEstimator")
    assert_named(without.stderr, "custom-build", cf.kept())
    assert cf.kept().read_text() != former
