"""`cf show`, `validate` and `config`: what is, and who said so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from compreface_cli import resources
from tests.cli.build_files import build_data, plain_data, write
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


def test_show_prints_the_file(cf: Cf) -> None:
    out = cf("show", "embedded").out
    assert "embedded.yaml" in out.splitlines()[0]
    assert "detector: embedded.FaceDetector@mtcnn" in out
    document = cf("show", "embedded", "--json").document
    assert document["origin"] == "bundled"
    assert document["build"]["schema"] == 1


BARE = ["facenet.LandmarksDetector", "facenet.PoseEstimator"]


@pytest.mark.parametrize("flags", [(), ("--resolved",)])
def test_show_says_what_the_ui_will_lack_and_the_lines_that_mend_it(
    cf: Cf, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    write(tmp_path / "builds", plain_data(plugins=BARE))
    done = cf("show", "plain", *flags)
    assert done.code == 0
    assert done.err.count("warning: ") == 1
    assert "  - embedded.AgeDetector\n  - embedded.GenderDetector\n" in done.err
    [finding] = cf("show", "plain", *flags, "--json").document["findings"]
    assert (finding["check"], finding["level"]) == ("ui", "warn")
    (tmp_path / "cf.yaml").write_text("services: core\n")
    assert "warning: " not in cf("show", "plain", *flags).err
    assert "warning: " not in cf("show", "embedded", *flags).err


def test_a_build_is_shown_though_the_settings_make_no_plan(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "cf.yaml").write_text("plugins: [nonsense.At]\n")
    assert cf("show", "embedded").code == 0


def test_show_without_a_name_takes_what_the_settings_choose(cf: Cf, tmp_path: Path) -> None:
    assert cf("show", "--json").document["build"]["name"] == "embedded"
    (tmp_path / "cf.yaml").write_text("build: facenet\n")
    assert cf("show", "--json").document["build"]["name"] == "facenet"


@pytest.mark.parametrize(
    "name",
    sorted(path.stem for path in resources.builds_dir().glob("*.yaml")),
)
def test_every_bundled_build_is_shown_and_resolved(cf: Cf, name: str) -> None:
    assert cf("show", name).code == 0
    plan = cf("show", name, "--resolved", "--json").document["plan"]
    assert plan["build"] == name
    assert plan["project"] == f"cf-{name}"
    assert cf("show", name, "--resolved").code == 0


def test_a_resolved_plan_names_who_set_each_value(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cf.yaml").write_text(
        "port: 8123\npostgres_password: hunter2\nenv_file: .env\nplugins: [agegender.AgeDetector]\n"
    )
    (tmp_path / ".env").write_text("CORE_VERSION=1\nuwsgi_processes=3\n")
    monkeypatch.setenv("CF_BIND", "0.0.0.0")
    done = cf("show", "facenet", "--resolved")
    origins = {line.split()[0]: line for line in done.out.splitlines()}
    assert "project file" in origins["port"]
    assert "cf.yaml:1" in origins["port"]
    assert "environment CF_BIND" in origins["bind"]
    assert "env file" in origins["max_concurrency"]
    assert "build facenet" in origins["detector"]
    assert origins["postgres_password"].split()[1] == "(set)"
    assert_named(done.out, "20180402-114759: tensorflow-graph", "22801: tensorflow-checkpoint")
    assert "hunter2" not in done.out
    assert_named(done.err, ".env:1: CORE_VERSION")


def test_a_hash_that_was_accepted_is_known(cf: Cf, tmp_path: Path) -> None:
    kept = tmp_path / "home" / "state" / "compreface-cli"
    kept.mkdir(parents=True)
    (kept / "accepted-hashes.json").write_text(json.dumps({"2d106det": ["ab" * 32], "other": []}))
    write(tmp_path / "builds", plain_data(plugins=["insightface.Landmarks2d106Detector"]))
    out = cf("show", "plain", "--resolved").out
    [line] = [line for line in out.splitlines() if "2d106det:" in line]
    assert_named(line, "mxnet", "ab" * 32, "accepted")
    document = cf("show", "plain", "--resolved", "--json").document
    assert document["accepted_hashes"] == {"2d106det": ["ab" * 32]}
    (kept / "accepted-hashes.json").write_text("{")
    done = cf("show", "plain", "--resolved")
    assert done.code == 0
    [line] = [line for line in done.out.splitlines() if "2d106det:" in line]
    assert "ab" * 32 not in line
    assert_named(done.err, "accepted-hashes.json")


def test_a_valid_file_is_reported_as_valid(cf: Cf, tmp_path: Path) -> None:
    path = write(tmp_path, build_data())
    done = cf("validate", path.name)
    assert done.code == 0
    assert_named(done.out, "my-build.yaml: ", "my-build ")
    assert cf("validate", str(path), "--json").document["notes"] == []


def test_validate_reports_every_fault_with_its_line(cf: Cf, tmp_path: Path) -> None:
    path = write(tmp_path, build_data(detektor="x", device="gpu"))
    done = cf("validate", str(path))
    assert done.code == 3
    assert_named(done.err, "'detektor'", "'detector'?")
    faults = cf("validate", str(path), "--json").document["error"]["details"]["faults"]
    assert [Path(fault["file"]).name for fault in faults] == ["my-build.yaml"] * 2
    lines = path.read_text().splitlines()
    assert {lines[fault["line"] - 1].split(":")[0] for fault in faults} == {"detektor", "device"}


def test_validate_tells_every_missing_model_with_the_line_of_its_plugin(
    cf: Cf, tmp_path: Path
) -> None:
    plugins = [
        "facenet.PoseEstimator",
        "genderage.AgeDetector@mine",
        "genderage.GenderDetector@mine",
        "facemask.MaskDetector@yunet_n",
    ]
    named = {"detector": "yunet.FaceDetector@other", "calculator": "custom.Calculator@third"}
    path = write(tmp_path, plain_data(**named, plugins=plugins))
    done = cf("validate", str(path), "--json")
    assert done.code == 3
    error = done.document["error"]
    lines = path.read_text().splitlines()
    assert [
        lines[fault["line"] - 1].strip(" -").removeprefix("detector: ").removeprefix("calculator: ")
        for fault in error["details"]["faults"]
    ] == [*named.values(), *plugins[1:]]
    assert_named(error["message"], f"{path}:3: detector: yunet.FaceDetector@other")
    entries = error["hint"].partition("like this:\n")[2].partition("\n`cf show")[0]
    assert [one["name"] for one in yaml.safe_load(entries)["models"]] == ["other", "third", "mine"]


def test_validate_names_the_line_of_a_plugin_that_is_listed_twice(cf: Cf, tmp_path: Path) -> None:
    path = write(tmp_path, plain_data(plugins=["facenet.PoseEstimator"] * 2))
    assert_named(cf("validate", str(path)).err, f"{path}:7: plugins.1: facenet.PoseEstimator")


def test_validate_notes_what_will_not_run_or_be_found(cf: Cf, tmp_path: Path) -> None:
    path = write(tmp_path, plain_data(plugins=["insightface.Landmarks2d106Detector"]))
    path = path.rename(tmp_path / "other.yaml")
    out = cf("validate", str(path)).out
    assert_named(out, "plain.yaml", "model 2d106det")


def test_validate_does_not_look_at_the_settings_of_this_folder(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "cf.yaml").write_text("detector: nonsense\n")
    assert cf("validate", str(write(tmp_path, plain_data()))).code == 0
    assert cf("show", "embedded", "--resolved").code == 3


def test_validate_takes_several_files_and_tells_the_faults_of_all(cf: Cf, tmp_path: Path) -> None:
    good = write(tmp_path, plain_data())
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("schema: 1\nname: first\ncolour: red\n")
    second.write_text("schema: 2\n")
    document = cf("validate", str(good), str(good), "--json").document
    assert [one["file"] for one in document["files"]] == [str(good)] * 2
    done = cf("validate", str(first), str(good), str(second))
    assert done.code == 3
    assert "colour" in done.err
    assert f"{second}:1" in done.err
    assert_named(done.err, f"{good}: ")
    found = cf("validate", str(first), str(second), "--json").document["error"]["details"]["faults"]
    assert {Path(one["file"]).name for one in found} == {"first.yaml", "second.yaml"}


def test_validate_of_nothing_says_so(cf: Cf) -> None:
    done = cf("validate", "no.yaml")
    assert done.code == 3
    assert_named(done.err, "no.yaml")


def test_config_path_prints_every_location(cf: Cf, tmp_path: Path) -> None:
    document = cf("config", "path", "--json").document["paths"]
    assert document["project_file"] == {"path": str(tmp_path / "cf.yaml"), "exists": False}
    assert document["models"]["path"] == str(tmp_path / "home/data/compreface-cli/models")
    (tmp_path / "cf.yaml").write_text("port: 1\n")
    out = cf("config", "path").out
    assert f"project file  {tmp_path}/cf.yaml\n" in out
    assert_named(out, f"{tmp_path}/home/data/compreface-cli/models")


def test_config_list_shows_values_origins_and_names(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "cf.yaml").write_text("env_file: .env\n")
    (tmp_path / ".env").write_text("ND4J_CLASSIFIER=x\nmax_detect_size=7\n")
    done = cf("config", "list")
    assert_named(done.err, ".env:1: ND4J_CLASSIFIER")
    assert "CF_MAX_DETECT_SIZE, .env max_detect_size" in done.out
    document = cf("config", "list", "--json").document
    rows = {row["key"]: row for row in document["settings"]}
    assert rows["max_detect_size"]["value"] == 7
    assert rows["max_detect_size"]["origin"].startswith("env file")
    assert set(document["without_effect"]) == {"CORE_VERSION", "ND4J_CLASSIFIER"}
    assert json.dumps(document)
