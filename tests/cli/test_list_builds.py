"""The list of builds: all that a choice needs, as this host sees it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.builds.builds import listed, model_of
from compreface_cli.builds.spec import model_from_data
from compreface_cli.docker.probe import Quick
from compreface_cli.inspect.list_builds import Host, Row, rows
from compreface_cli.models import catalogue, prepare
from compreface_cli.models.entry import Model
from compreface_cli.plugin_table import UI_PLUGINS
from compreface_cli.runtimes import FLAGS
from tests.cli.build_files import SHA, build_data, model_entry, owned_data, plain_data, write
from tests.cli.fake_docker_socket import daemon
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named
from tests.cli.test_docker_probe import whole

FIT = FLAGS["onnxruntime"]
TO_GIVE = "arcface_resnet34"  # of the catalogue: no public address has it


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


def builds(cf: Cf, *flags: str) -> dict[str, dict[str, Any]]:
    document = cf("list-builds", *flags, "--json").document
    return {build["name"]: build for build in document["builds"]}


def seen(flags: frozenset[str] | None = FIT, gpu: bool = False) -> dict[str, Row]:
    return {row.name: row for row in rows(Host(flags, gpu), listed())}


def prepared(root: Path, model: Model, digest: str = SHA) -> Path:
    """A model as it lies there once it was prepared from a file of that hash."""
    folder = root / "home" / "data" / "compreface-cli" / "models" / model.name
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_text("x")
    record = {
        "entry": prepare.entry_digest(model),
        "sources": {one.path: digest for one in model.files},
        "files": {"model.onnx": digest},
        "sizes": {"model.onnx": 1},
    }
    (folder / prepare.RECORD).write_text(json.dumps(record))
    return folder


def own_model(**changes: Any) -> Model:
    return model_of(model_from_data(model_entry(**changes), "here"))


def test_all_are_listed_with_what_a_choice_needs(cf: Cf) -> None:
    found = builds(cf)
    assert next(iter(found)) == "embedded"
    assert len(found) == 12
    default = found["embedded"]
    assert default["default"] is True
    assert default["runtime"] == "onnxruntime"
    assert "sse4_2" in default["cpu_flags"]
    assert {one["kind"] for one in default["accuracy"]} == {"published", "measured"}
    assert all(one["source"] for one in default["accuracy"])
    assert default["licence"]["commercial"] == "unclear"
    assert default["licence"]["reason"]
    assert default["models"]["state"] == "built in"
    assert found["arcface-r100"]["licence"]["commercial"] == "excluded"
    assert found["arcface-r100"]["models"]["state"] == "missing"
    assert found["buffalo-s"]["models"]["state"] == "missing"
    assert found["buffalo-s"]["models"]["to_give"] == []
    assert "1.2.0" in found["facenet"]["upstream"]


def test_filters_narrow_the_list(cf: Cf) -> None:
    assert set(builds(cf, "--gpu")) == {"mobilenet-gpu", "arcface-r100-gpu"}
    assert "embedded" in builds(cf, "--cpu")
    assert not set(builds(cf, "--cpu")) & set(builds(cf, "--gpu"))
    assert len(builds(cf, "--cpu", "--gpu")) == 12


def test_commercial_lists_allowed_builds_and_a_second_flag_adds_unclear_ones(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unclear = {"auraface", "embedded", "facenet", "sface", "yunet-embedded"}
    assert builds(cf, "--commercial") == {}
    assert set(builds(cf, "--commercial-unclear")) == unclear
    assert set(builds(cf, "--commercial", "--commercial-unclear")) == unclear
    document = cf("list-builds", "--commercial", "--json").document
    assert set(document["left_out_as_unclear"]) == unclear
    monkeypatch.setenv("COLUMNS", "300")
    done = cf("list-builds", "--commercial")
    assert done.code == 0
    assert_named(done.out, *unclear, "--for commercial")
    write(tmp_path / "builds", owned_data())
    assert set(builds(cf, "--commercial")) == {"my-build"}
    assert set(builds(cf, "--commercial-unclear")) == {"my-build", *unclear}


def test_every_network_of_a_build_states_its_training_data(cf: Cf) -> None:
    found = builds(cf)
    assert found["embedded"]["trained_on"]["MTCNN"] == ["WIDER FACE", "CelebA"]
    assert found["facenet"]["trained_on"]["20180402-114759"] == ["VGGFace2"]
    assert found["yunet-embedded"]["trained_on"]["yunet_n"] == ["WIDER FACE"]
    assert found["mobilenet"]["trained_on"]["genderage_v1"] == []
    assert "WIDER FACE (CC BY-NC-ND 4.0)" in found["embedded"]["licence"]["reason"]


def test_the_border_of_the_calculator_is_listed(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", build_data(models=[model_entry(border={"at": 0.7})]))
    write(tmp_path / "builds", plain_data(calculator="custom.Calculator@w600k_mbf"))
    found = builds(cf)
    assert found["facenet"]["border"]["at"] == 0.81
    assert found["facenet"]["border"]["set"] == "LFW10 (4950 pairs)"
    assert found["arcface-r100"]["border"] is None
    assert (found["plain"]["border"]["at"], found["my-build"]["border"]["at"]) == (0.66, 0.7)


def test_one_column_has_one_set(cf: Cf) -> None:
    lines = cf("list-builds").out.splitlines()
    figures = {line.split()[0]: line for line in lines[1:]}
    for name, build in builds(cf).items():
        lfw = [one["value"] for one in build["accuracy"] if one["set"] == "LFW"]
        assert f"{lfw[0]:.2f}" if lfw else " - " in figures[name]


def test_the_cost_of_bgr_input_is_reported_where_it_is_chosen(cf: Cf) -> None:
    assert "46 of 46" in " ".join(cf("list-builds", "--long").out.split())
    assert "46 of 46" in builds(cf)["mnet25-mobilefacenet"]["note"]


def test_the_list_fits_a_screen_of_80_columns(cf: Cf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = cf("list-builds").out
    assert max(map(len, out.splitlines())) <= 80


def test_without_docker_the_state_of_images_is_unknown(cf: Cf) -> None:
    found = builds(cf)["embedded"]
    assert found["image"] == {"built": None, "tags": None}
    assert found["running"] == {"running": False, "instances": []}


def test_built_images_and_running_instances_come_from_docker(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon(tmp_path / "s", whole) as (address, _):
        monkeypatch.setenv("DOCKER_HOST", address)
        found = builds(cf)
    assert found["embedded"]["image"]["built"] is True
    assert found["embedded"]["running"]["instances"] == ["one"]
    assert found["facenet"]["image"] == {"built": False, "tags": []}


def test_a_local_process_is_running_without_docker(cf: Cf, tmp_path: Path) -> None:
    home = tmp_path / "home" / "state" / "compreface-cli" / "instances"

    def record(name: str, pid: int, launcher: str = "process", **more: Any) -> None:
        (home / name).mkdir(parents=True)
        (home / name / "state.json").write_text(json.dumps({"child": {"pid": pid}}))
        document = {
            "schema": 1,
            "name": name,
            "build": "embedded",
            "phase": "running",
            "calculator": "",
            "services": "core",
            "created": "",
            "deployment": {"launcher": launcher, "data": {"folder": str(home / name)}},
            **more,
        }
        (home / name / "instance.json").write_text(json.dumps(document))

    record("alive", os.getpid())
    record("dead", 2**22 + 1)
    record("stopped", os.getpid(), phase="stopped")
    record("damaged", os.getpid(), deployment=1)
    record("elsewhere", os.getpid(), launcher="compose", build="mobilenet")
    record("both", os.getpid(), launcher="compose")
    found = builds(cf)
    assert found["embedded"]["running"]["instances"] == ["alive"]
    assert found["facenet"]["running"]["instances"] == []
    assert found["mobilenet"]["running"] == {"running": None, "instances": None}


def test_instances_in_docker_and_as_processes_are_listed_together(cf: Cf) -> None:
    docker = Quick({"embedded": ("a:1",)}, {"embedded": ("one",)})
    row = rows(Host(FIT, gpu=False, docker=docker), listed())[0]
    assert (row.images, row.running) == (("a:1",), ("one",))


def test_models_are_here_when_they_are_prepared(cf: Cf, tmp_path: Path) -> None:
    assert builds(cf)["yunet-embedded"]["models"]["state"] == "missing"
    model = catalogue.models()["yunet_n"]
    prepared(tmp_path, model, model.files[0].sha256[0])
    assert builds(cf)["yunet-embedded"]["models"] == {
        "state": "here",
        "by_name": {"yunet_n": "here"},
        "to_give": [],
    }


def test_runnable_is_what_this_host_can_run(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "builds", plain_data(calculator=f"insightface.Calculator@{TO_GIVE}"))
    every = {name for name, row in seen().items() if row.device == "cpu"}
    assert {name for name, row in seen().items() if row.runnable} == every - {"plain"}
    assert not seen(flags=FIT - {"sse4_2"})["embedded"].runnable
    assert seen(flags=None)["embedded"].runnable
    monkeypatch.setenv("CF_MODELS_MIRROR", str(tmp_path))
    assert {name for name, row in seen().items() if row.runnable} == every - {"plain"}
    (tmp_path / TO_GIVE).mkdir()
    for file in catalogue.models()[TO_GIVE].files:
        (tmp_path / file.path).write_text("x")
    assert {name for name, row in seen().items() if row.runnable} == every


@pytest.mark.parametrize("mirror", ["ftp://x", "/no/such/folder"])
def test_a_mirror_that_up_refuses_keeps_builds_from_starting(
    cf: Cf, monkeypatch: pytest.MonkeyPatch, mirror: str
) -> None:
    monkeypatch.setenv("CF_MODELS_MIRROR", mirror)
    assert (seen()["yunet-embedded"].why_not, seen()["embedded"].why_not) == ("mirror", "")
    assert "yunet-embedded" not in builds(cf, "--runnable")
    assert_named(cf("show", "yunet-embedded").out, "CF_MODELS_MIRROR")
    up = ("up", "yunet-embedded", "--launcher", "process", "--port", "auto", "--dry-run", "--json")
    ended = cf(*up)
    assert (ended.code, ended.document["error"]["type"]) == (3, "ConfigurationError")


def test_a_gpu_build_is_runnable_where_there_is_a_gpu(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", plain_data(name="mine", device="cuda"))
    assert not seen()["mine"].runnable
    assert seen(gpu=True)["mine"].runnable


def test_a_build_of_the_users_own_is_listed_with_its_model(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", build_data(models=[model_entry()]))
    row = seen()["my-build"]
    assert (row.origin, row.models_state, row.runnable) == ("project", "to give", False)
    (tmp_path / "builds" / "my-model.onnx").write_text("x")
    assert seen()["my-build"].runnable
    prepared(tmp_path, own_model())
    assert seen()["my-build"].models_state == "here"


def test_a_model_of_that_name_made_from_another_file_is_not_here(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", build_data(models=[model_entry()]))
    other = [{"path": "my-model.onnx", "sha256": "cd" * 32}]
    prepared(tmp_path, own_model(files=other), "cd" * 32)
    row = seen()["my-build"]
    assert (row.models_state, row.runnable) == ("to give", False)


def test_a_prepared_model_that_lost_its_size_is_damaged(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", build_data(models=[model_entry()]))
    (prepared(tmp_path, own_model()) / "model.onnx").write_text("xx")
    assert seen()["my-build"].models == {"my-model": "damaged"}


def test_a_model_entry_with_faults_does_not_end_the_list(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", build_data(models=[{"name": "my-model"}]))
    write(tmp_path / "builds", build_data(name="none", models=3))
    assert seen()["my-build"].models_state == "to give"
    assert seen()["none"].models_state == "to give"


def test_a_file_that_is_not_a_build_is_listed_with_its_fault(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "builds").mkdir()
    (tmp_path / "builds" / "broken.yaml").write_text("a: [")
    (tmp_path / "builds" / "odd.yaml").write_text("facts: 1\nplugins: x\nmodels: 3\ndevice: cpu\n")
    found = builds(cf)
    assert_named(found["broken"]["fault"], "broken.yaml:", "YAML")
    assert found["broken"]["runnable"] is False
    assert found["odd"]["accuracy"] == []
    assert_named(cf("list-builds").out, "broken.yaml:")


def test_a_build_without_a_licence_has_that_of_its_models(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", plain_data(detector="scrfd.FaceDetector@scrfd_500m"))
    write(tmp_path / "builds", build_data())
    assert "plain" not in builds(cf, "--commercial")
    assert builds(cf)["plain"]["licence"]["commercial"] == "excluded"
    assert_named(builds(cf)["my-build"]["licence"]["reason"], "my-model: ")


@pytest.mark.parametrize(
    ("choice", "level"),
    [
        ({"detector": "scrfd.FaceDetector@scrfd_500m"}, "excluded"),
        ({"calculator": "custom.Calculator@w600k_mbf"}, "excluded"),
        ({"calculator": "embedded.Calculator@mobilefacenet192"}, "unclear"),
        ({}, "allowed"),
    ],
)
def test_a_build_file_states_the_terms_of_its_own_models_only(
    cf: Cf, tmp_path: Path, choice: dict[str, Any], level: str
) -> None:
    write(tmp_path / "builds", {**owned_data(), **choice})
    assert builds(cf)["my-build"]["licence"]["commercial"] == level
    assert ("my-build" in builds(cf, "--commercial")) is (level == "allowed")
    shown = cf("show", "my-build", "--json").document
    assert shown["licence"] == builds(cf)["my-build"]["licence"]
    assert "not known" not in cf("show", "my-build").out.partition("commercial use")[2]


def test_a_build_is_listed_with_the_plugins_it_has_by_itself(cf: Cf, tmp_path: Path) -> None:
    write(tmp_path / "builds", plain_data())
    write(tmp_path / "builds", plain_data(name="bare", plugins=[]))
    found = builds(cf)
    assert found["plain"]["plugins"] == list(UI_PLUGINS)
    assert found["bare"]["plugins"] == []
    assert "face-api's age and gender: MIT" in found["plain"]["licence"]["weights"]
    assert "face-api" not in found["bare"]["licence"]["weights"]


def test_the_age_and_gender_of_facenet_are_upstreams(cf: Cf) -> None:
    facenet = builds(cf)["facenet"]
    assert {"agegender.AgeDetector", "agegender.GenderDetector"} <= set(facenet["plugins"])


def test_a_build_that_up_refuses_is_not_runnable_and_says_why(cf: Cf, tmp_path: Path) -> None:
    (tmp_path / "builds").mkdir()
    folder = tmp_path / "builds"
    write(folder, plain_data()).rename(folder / "other.yaml")
    (folder / "odd.yaml").write_text("schema: 1\nname: odd\ncolour: red\n")
    write(folder, plain_data(name="unfit", runtime="openvino", device="cuda"))
    assert not {"other", "plain", "odd", "unfit"} & set(builds(cf, "--runnable"))
    found = builds(cf)
    assert_named(found["other"]["fault"], "'plain'", "'other.yaml'")
    assert_named(found["odd"]["fault"], "'colour'")
    assert_named(found["unfit"]["fault"], "runtime openvino")
    assert found["odd"]["models"]["state"] is None
    [line] = [one for one in cf("list-builds").out.splitlines() if one.startswith("odd ")]
    assert line.split()[-2:] == ["?", "file"]


def test_the_table_has_a_line_for_each_build(cf: Cf) -> None:
    lines = cf("list-builds").out.splitlines()
    assert lines[0].split() == [*"BUILD FOR LFW % SPEED MEM DOWNLOAD LICENCE STARTS".split()]
    assert [line.split()[0] for line in lines[1:]] == list(builds(cf))
    assert lines[1].startswith("embedded (default)")


def test_the_long_form_has_the_origin_of_each_figure(cf: Cf) -> None:
    out = " ".join(cf("list-builds", "--long").out.split())
    assert "embedded.FaceDetector@mtcnn" in out
    for build in builds(cf).values():
        assert build["name"] in out
        for figure in build["accuracy"]:
            assert figure["source"] in out


def test_a_filter_that_matches_no_build_says_so(cf: Cf) -> None:
    out = cf("list-builds", "--gpu", "--commercial").out
    assert [line for line in out.splitlines()[1:] if line.strip()]
    assert builds(cf, "--gpu", "--commercial") == {}
