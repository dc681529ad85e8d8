"""`cf render`: a folder from a build, again the same, and refusals that leave nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from compreface_cli.config import paths
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


def test_a_folder_is_written_and_a_second_time_nothing_changes(cf: Cf, tmp_path: Path) -> None:
    first = cf("render", "embedded", "-o", "out", "--json").document
    assert {path for path in first["changed"] if not path.endswith(".whl")} == {
        "README.md",
        "compose.yaml",
        "core/Dockerfile",
        "core/requirements.txt",
        "monitoring/alerts.yml",
        "monitoring/compose.prometheus.yaml",
        "monitoring/grafana-dashboard.json",
        "monitoring/prometheus.yml",
        "ui/nginx.conf.template",
        ".env",
    }
    secrets = (tmp_path / "out" / ".env").read_bytes()
    second = cf("render", "embedded", "-o", "out", "--json").document
    assert second["changed"] == []
    assert second["digest"] == first["digest"]
    assert (tmp_path / "out" / ".env").read_bytes() == secrets
    assert cf("render", "embedded", "-o", "out").out.startswith("out is up to date")


def test_flags_reach_the_file(cf: Cf, tmp_path: Path) -> None:
    flags = ["--instance", "second", "--port", "8123", "--core-port", "3123", "--bind", "0.0.0.0"]
    done = cf("render", "embedded", "-o", "out", *flags)
    assert "docker compose --project-directory out up -d --wait" in done.out
    document = yaml.safe_load((tmp_path / "out" / "compose.yaml").read_text())
    assert document["name"] == "cf-second"
    assert document["services"]["compreface-fe"]["ports"] == [
        "0.0.0.0:8123:80",
        "127.0.0.1:3123:3000",
    ]


def test_a_service_less_is_a_file_less(cf: Cf, tmp_path: Path) -> None:
    cf("render", "embedded", "-o", "out", "--services", "core")
    document = yaml.safe_load((tmp_path / "out" / "compose.yaml").read_text())
    assert set(document["services"]) == {"compreface-core"}


def test_a_launcher_in_the_settings_does_not_matter(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "cf.yaml").write_text("launcher: process\n")
    cf("render", "embedded", "-o", "out")
    document = yaml.safe_load((tmp_path / "out" / "compose.yaml").read_text())
    assert len(document["services"]) == 5


@pytest.mark.parametrize("gpu", [(), ("--gpu",)])
def test_a_build_whose_models_are_out_of_reach_is_rendered_without_them_only(
    cf: Cf, tmp_path: Path, gpu: tuple[str, ...]
) -> None:
    flags = ("--calculator", "insightface.Calculator@arcface_resnet34", *gpu)
    done = cf("render", "embedded", *flags, "-o", "out")
    assert done.code == 9
    assert_named(done.err, "model arcface_resnet34", "CF_MODELS_MIRROR=")
    assert not (tmp_path / "out").exists()
    assert cf("render", "embedded", *flags, "-o", "out", "--no-models").code == 0


def test_models_can_be_left_out(cf: Cf, tmp_path: Path) -> None:
    done = cf("render", "facenet", "-o", "out", "--no-models")
    assert done.code == 0
    assert not (tmp_path / "out" / "core" / "models").exists()
    assert "core/models/20180402-114759/" in (tmp_path / "out" / "README.md").read_text()


def test_a_hand_edit_ends_with_4(cf: Cf, tmp_path: Path) -> None:
    cf("render", "embedded", "-o", "out")
    (tmp_path / "out" / "compose.yaml").write_text("name: mine\n")
    done = cf("render", "embedded", "-o", "out")
    assert done.code == 4
    assert "-name: mine" in done.err
    assert "compose.override.yaml" in done.err


def test_a_file_in_the_place_of_the_folder_ends_with_4_and_stays(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = cf("render", "embedded", "-o", "out", "--no-models")
    assert done.code == 4
    assert_named(done.err, "out is not a folder")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_port_that_only_up_can_settle_ends_with_3_and_no_folder(cf: Cf, tmp_path: Path) -> None:
    assert cf("render", "embedded", "-o", "out", "--port", "auto").code == 3
    assert not (tmp_path / "out").exists()


def test_two_ports_with_one_number_end_with_2_and_no_folder(cf: Cf, tmp_path: Path) -> None:
    same = ("--port", "3456", "--core-port", "3456")
    done = cf("render", "embedded", "-o", "out", *same)
    assert done.code == 2
    assert_named(done.err, "--port", "--core-port", 3456)
    assert "auto" not in done.err  # only `cf up` can settle that
    assert not (tmp_path / "out").exists()
    assert cf("render", "embedded", "-o", "out", "--services", "core", *same).code == 0


@pytest.mark.parametrize(
    ("folder", "words"), [("a b", "'a b'"), ("it's", """'it'"'"'s'"""), ("-x", "./-x")]
)
def test_the_next_command_can_be_pasted(cf: Cf, folder: str, words: str) -> None:
    done = cf("render", "embedded", f"--output={folder}")
    assert f"  docker compose --project-directory {words} up -d --wait" in done.out.splitlines()


def test_without_the_models_the_next_thing_is_the_models(cf: Cf, tmp_path: Path) -> None:
    flags = ("embedded", "--calculator", "facenet.Calculator", "-o", "out", "--no-models")
    done = cf("render", *flags)
    assert "docker compose" not in done.out
    assert "out/core/models/20180402-114759/" in done.out
    assert_named(done.out, "--no-models")
    document = cf("render", *flags, "--json").document
    assert document["missing_models"] == ["20180402-114759"]
    # Whoever put them there himself can build.
    (tmp_path / "out/core/models/20180402-114759").mkdir(parents=True)
    assert "docker compose" in cf("render", *flags).out
    assert cf("render", "embedded", "-o", "b", "--json").document["missing_models"] == []


def test_keys_of_upstreams_env_without_effect_are_noted(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "cf.yaml").write_text("env_file: .env\n")
    (tmp_path / ".env").write_text("CORE_VERSION=1\nmax_request_size=20M\n")
    assert_named(cf("render", "embedded", "-o", "out").err, ".env:1: CORE_VERSION")
    assert 'MAX_REQUEST_SIZE: "20MB"' in (tmp_path / "out" / "compose.yaml").read_text()


def test_a_folder_of_another_calculator_is_refused_and_stays(cf: Cf, tmp_path: Path) -> None:
    cf("render", "embedded", "-o", "out", "--instance", "two")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    done = cf("render", "facenet", "-o", "out", "--instance", "two", "--no-models")
    assert done.code == 5
    assert_named(done.err, "embedded.Calculator@mobilefacenet192", "facenet.Calculator")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    cluster = ("--instance", "two", "--target", "helm", "--no-models")
    assert cf("render", "facenet", "-o", "out", *cluster).code == 5
    core = ("--services", "core", "--no-models")
    assert cf("render", "facenet", "-o", "alone", "--instance", "two", *core).code == 0
    assert cf("render", "embedded", "-o", "alone", "--instance", "two", *core).code == 0


@pytest.mark.parametrize("services", ["full", "core"])
def test_a_folder_of_another_instance_is_refused(cf: Cf, tmp_path: Path, services: str) -> None:
    cf("render", "embedded", "-o", "out", "--instance", "one", "--services", services)
    done = cf("render", "embedded", "-o", "out", "--instance", "two", "--services", services)
    assert done.code == 4
    assert_named(done.err, "out ", "'one'", "'two'", "--instance one")
    # The folder that `cf up` keeps for an instance belongs to that one, whatever lies in it.
    theirs = paths.project_dir("one")
    theirs.mkdir(parents=True)
    assert cf("render", "embedded", "-o", str(theirs), "--instance", "two").code == 4
    assert list(theirs.iterdir()) == []
    assert cf("render", "embedded", "-o", str(theirs), "--instance", "one").code == 0
