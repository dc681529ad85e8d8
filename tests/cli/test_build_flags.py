"""The flags that change a build are the same, with the same effect, in each command."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from compreface_cli.app import make_app
from compreface_cli.config.settings_table import BUILD, TABLE
from compreface_cli.deploy.running import start_command
from compreface_cli.instance.records import Record
from tests.cli.build_files import build_data, text
from tests.cli.in_process import Cf, in_folder

CARDS = """\
0, NVIDIA A, 8.9, 580.10, 24000
1, NVIDIA B, 8.9, 580.10, 24000
"""
UP = ("up", "embedded", "--launcher", "process", "--port", "auto", "--dry-run", "--json")


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    """On a machine with two cards, as nvidia-smi says, and without Docker."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(f"#!/bin/sh\n/bin/cat <<'END'\n{CARDS}END\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(smi.parent))
    return in_folder(tmp_path, monkeypatch, capsys)


def document(cf: Cf, *arguments: str) -> dict[str, Any]:
    done = cf(*arguments)
    assert done.code == 0, done.out + done.err
    return done.document


def dockerfile(cf: Cf, *flags: str) -> str:
    done = cf("render", "embedded", "-o", "rendered", *flags)
    assert done.code == 0, done.err
    return Path("rendered", "core", "Dockerfile").read_text()


def core(cf: Cf, *flags: str) -> dict[str, Any]:
    """The engine's service in the rendered project."""
    dockerfile(cf, *flags)
    rendered = yaml.safe_load(Path("rendered", "compose.yaml").read_text())
    service: dict[str, Any] = rendered["services"]["compreface-core"]
    return service


def flags_of(command: str) -> set[str]:
    root: Any = typer.main.get_command(make_app([command]))
    return {flag for option in root.commands[command].params for flag in option.opts}


def test_each_flag_of_the_table_of_settings_is_there() -> None:
    # An image that exists is for a start only, and `show` fetches and pushes nothing.
    of_build = {row.flag for row in BUILD if row.flag and row.key not in ("build", "image")}
    for command in ("build", "render", "up"):
        assert of_build <= flags_of(command), command
    assert of_build - {"--no-fallbacks", "--push-to"} <= flags_of("show")
    assert {row.flag for row in TABLE if row.flag} - {"BUILD"} <= flags_of("up")


def test_up_takes_the_gpu_of_the_flag(cf: Cf) -> None:
    assert "cuda13" in json.dumps(document(cf, *UP, "--gpu-index", "1")["operations"])
    assert "cuda" not in json.dumps(document(cf, *UP)["operations"])


def test_the_way_out_of_a_gpu_that_is_not_there_works(cf: Cf) -> None:
    done = cf(*UP, "--gpu", "--gpu-index", "5")
    assert done.code == 7, done.out
    assert "0 (NVIDIA A), 1 (NVIDIA B)" in done.out
    assert "--gpu-index" in done.out
    assert cf(*UP, "--gpu", "--gpu-index", "1").code == 0


def test_up_runs_the_plugins_and_models_of_the_flags(cf: Cf) -> None:
    said = document(cf, *UP, "--detector", "facenet.FaceDetector")
    assert (said["build"], said["instance"]) == ("embedded", "embedded")
    model = cf(*UP, "--calculator", "facenet.Calculator@20180408-102900")
    assert model.code == 9, "its weights are nowhere"
    assert "20180408-102900" in model.out


def test_a_flag_without_effect_on_a_process_is_reported(cf: Cf) -> None:
    said = cf(*UP[:-1], "--base-image", "own/base:1")
    assert said.code == 0
    assert "--base-image has no effect" in said.err


def test_render_writes_what_the_flags_ask_for(cf: Cf) -> None:
    flags = ("--detector", "facenet.FaceDetector", "--gpu-index", "2", "--base-image", "own/base:1")
    engine = dockerfile(cf, *flags)
    assert 'ENV FACE_DETECTION_PLUGIN="facenet.FaceDetector"' in engine
    assert 'ENV GPU_IDX="2"' in engine
    assert "ARG BASE_IMAGE=own/base:1" in engine
    (device,) = core(cf, *flags)["deploy"]["resources"]["reservations"]["devices"]
    assert device["device_ids"] == ["2"]


def test_show_names_the_origin_of_each_value(cf: Cf) -> None:
    plan = document(cf, "show", "embedded", "--gpu-index", "1", "--json")["plan"]
    assert (plan["device"], plan["gpu_index"], plan["wheels"]) == ("cuda", 1, "cuda13")
    assert plan["origins"]["gpu_index"] == "flag --gpu-index"
    lines = cf("show", "embedded", "--runtime", "auto").out.splitlines()
    assert any(line.split() == ["runtime", "auto", "flag", "--runtime"] for line in lines)


FLAGS = (
    ("--gpu-index", "1"),
    ("--detector", "facenet.FaceDetector", "--min-cosine", "0.99"),
    ("--plugin", "facenet.PoseEstimator", "--plugin", "facenet.LandmarksDetector"),
    ("--runtime", "openvino", "--precision", "bf16", "--base-image", "own/base:1"),
)


@pytest.mark.parametrize("flags", FLAGS)
def test_the_image_has_the_hash_of_the_build_that_these_flags_make(
    cf: Cf, flags: tuple[str, ...]
) -> None:
    cf("build", "embedded", *flags)  # without Docker the build file is all
    kept = document(cf, "show", "custom-build", "--resolved", "--json")["plan"]["image"]
    image = document(cf, "show", "embedded", *flags, "--json")["plan"]["image"]
    assert kept.partition(":custom-build-")[2] == image.partition(":embedded-")[2] != ""
    assert core(cf, *flags)["image"] == image


@pytest.mark.parametrize("command", ["build", "up", "render", "show"])
@pytest.mark.parametrize(
    ("flag", "value", "others"),
    [
        ("--detector", "nope.X", ()),
        ("--calculator", "scrfd.FaceDetector", ()),
        ("--plugin", "embedded.Calculator@mobilefacenet192", ()),
        ("--plugin", "facenet.PoseEstimator", ("--plugin", "facenet.PoseEstimator")),
        ("--precision", "bf16", ("--gpu",)),
    ],
)
def test_a_value_that_cannot_be_is_the_flags_fault(
    cf: Cf, command: str, flag: str, value: str, others: tuple[str, ...]
) -> None:
    more = ("-o", "out") if command == "render" else ()
    more = ("--name", "mine") if command == "build" else more
    done = cf(command, "embedded", flag, value, *others, *more)
    assert done.code == 3, done.err
    assert f"flag {flag}" in done.err
    assert value in done.err
    assert "mine" not in done.err
    assert cf("show", "mine").code == 3


def test_an_instance_of_a_build_by_its_former_name_starts_under_its_own_name() -> None:
    record = Record("scrfd-w600k", "scrfd-w600k", "", "core", "stopped", "")
    assert start_command(record) == "cf up buffalo-s --instance scrfd-w600k"


@pytest.mark.parametrize(
    ("key", "variable", "value"),
    [
        ("postgres_version", "CF_POSTGRES_VERSION", "15.2"),
        ("postgres_image", "CF_POSTGRES_IMAGE", "postgres:15"),
    ],
)
def test_an_instance_starts_with_the_database_image_that_the_environment_chose(
    key: str, variable: str, value: str
) -> None:
    def command(origin: str) -> str:
        plan = {"stack": {key: value}, "origins": {key: origin}}
        return start_command(Record("mine", "embedded", "", "full", "stopped", "", plan=plan))

    alone = "cf up embedded --instance mine"
    assert command(f"environment {variable}") == f"{variable}={value} {alone}"
    assert command("default") == alone


@pytest.mark.parametrize("flags", [(), ("--gpu",), *FLAGS])
@pytest.mark.parametrize("build", ["embedded", "own files/mine.yaml"])
def test_the_command_that_starts_an_instance_again_has_its_flags(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str, flags: tuple[str, ...]
) -> None:
    (tmp_path / "own files").mkdir()
    (tmp_path / "own files" / "mine.yaml").write_text(text(build_data(name="mine")))
    plan = document(cf, "show", build, "--resolved", *flags, "--json")["plan"]
    record = Record("other", plan["build"], "", "core", "stopped", "", plan=plan)
    monkeypatch.chdir("/")
    up, *again = shlex.split(start_command(record))[1:]
    assert up == "up"
    assert "--instance" in again
    again.remove("--instance")
    again.remove("other")
    assert document(cf, "show", *again, "--resolved", "--json")["plan"] == plan
