"""The plan: every value settled, each with who set it, the same from the same input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_cli import plugin_table
from compreface_cli.builds.builds import BuildFile
from compreface_cli.builds.spec import from_text
from compreface_cli.checks import ui
from compreface_cli.config.settings import Settings, Value
from compreface_cli.config.settings import resolve as resolve_settings
from compreface_cli.errors import ConfigurationError
from compreface_cli.models.catalogue import models as bundled_catalogue
from compreface_cli.plan.plan import Plan, resolve, with_launcher
from tests.cli.build_files import SHA, build_file, catalogue, custom_build_file, model_entry
from tests.cli.names import assert_named

NOWHERE = Path("/nowhere/cf.yaml")


def given_by(**flags: Any) -> Settings:
    return resolve_settings(flags, environ={}, project_file=NOWHERE, user_file=NOWHERE)


def plan(build: BuildFile | None = None, **flags: Any) -> Plan:
    return resolve(build or build_file(), given_by(**flags), catalogue=catalogue())


def test_a_flag_wins_over_the_build_and_the_build_over_the_default() -> None:
    build = build_file(limits={"max_detect_size": 800})
    assert plan(build).max_detect_size == 800
    assert plan(build).origins["max_detect_size"] == "build plain"
    assert plan(build, max_detect_size=900).max_detect_size == 900
    assert plan(build, max_detect_size=900).origins["max_detect_size"] == "flag max_detect_size"
    assert plan().origins["max_detect_size"] == "default"
    # What the file leaves out is nobody's choice, also where the build's own defaults fill it.
    assert {plan(build).origins[key] for key in ("precision", "min_cosine")} == {"default"}


def test_a_limit_of_zero_counts_as_set() -> None:
    assert plan(build_file(limits={"max_detect_size": 0})).max_detect_size == 0
    assert plan(max_detect_size=0).engine_environment()["IMG_LENGTH_LIMIT"] == "0"


def test_every_value_has_an_origin() -> None:
    whole = plan()
    named = set(whole.as_dict()) - set(
        "build summary models stack engine_limits origins replaced licence image_alone".split()
    )
    assert named - {"secrets", "project", "volume", "data"} <= set(whole.origins)
    assert set(whole.stack) <= set(whole.origins)


def test_a_build_for_the_cpu_uses_no_gpu() -> None:
    found = plan(gpu_index=None)
    assert (found.device, found.gpu_index, found.wheels) == ("cpu", -1, "cpu")
    assert found.engine_environment()["GPU_IDX"] == "-1"


def test_a_build_for_the_gpu_takes_the_first_one_and_the_newest_wheels() -> None:
    found = plan(device="cuda")
    assert (found.device, found.gpu_index, found.wheels) == ("cuda", 0, "cuda13")
    assert found.base_image == "python:3.11-slim-bookworm"
    assert plan(device="cuda", wheels="cuda12-legacy").wheels == "cuda12-legacy"
    assert plan(build_file(device="cuda", gpu_index=2)).gpu_index == 2


def test_the_number_of_a_gpu_as_a_flag_asks_for_it() -> None:
    found = plan(gpu_index=1)
    assert (found.device, found.gpu_index) == ("cuda", 1)
    assert found.origins["device"] == "flag --gpu-index"
    assert found.engine_environment()["GPU_IDX"] == "1"


def test_the_number_of_a_gpu_in_a_file_does_not() -> None:
    settings = Settings({"gpu_index": Value(1, "project file", "project file cf.yaml:1")})
    assert resolve(build_file(), settings, catalogue={}).device == "cpu"


def test_wheels_for_the_cpu_do_not_fit_a_gpu() -> None:
    with pytest.raises(ConfigurationError, match="wheels: cpu"):
        plan(device="cuda", wheels="cpu")


@pytest.mark.parametrize(
    ("flags", "port"),
    [
        ({}, 8000),
        ({"services": "core"}, 3000),
        ({"launcher": "process"}, 3000),
        ({"launcher": "process", "services": "full"}, 3000),
        ({"services": "core", "core_port": 3100}, 3100),
        ({"services": "core", "port": 3200, "core_port": 3100}, 3200),
        ({"port": "auto"}, "auto"),
        ({"core_port": 3100}, 8000),
    ],
)
def test_port_is_that_of_the_ui_or_of_the_engine_alone(
    flags: dict[str, Any], port: int | str
) -> None:
    assert plan(**flags).port == port


def test_a_process_is_the_engine_alone() -> None:
    assert plan(launcher="process").services == "core"
    assert plan(launcher="process").stack_images == {}


def test_auto_becomes_a_process_on_the_engines_port() -> None:
    found = with_launcher(plan(), "process")
    assert (found.launcher, found.services, found.port) == ("process", "core", 3000)
    assert with_launcher(plan(port=8123), "process").port == 8123
    assert with_launcher(plan(core_port=3100), "process").port == 3100
    assert with_launcher(plan(services="core", port=3300), "process").port == 3300


def test_auto_becomes_compose_with_nothing_else_changed() -> None:
    found = with_launcher(plan(), "compose")
    assert (found.launcher, found.services, found.port) == ("compose", "full", 8000)
    alone = plan(launcher="process")
    assert with_launcher(alone, "process") == alone


def test_the_model_of_a_calculator_comes_from_the_catalogue() -> None:
    assert plan().models == ()
    assert [one.name for one in plan(calculator="facenet.Calculator").models] == ["20180402-114759"]
    other = plan(calculator="facenet.Calculator@20180408-102900")
    assert [one.name for one in other.models] == ["20180408-102900"]


def test_a_user_supplied_model_comes_from_the_build_and_its_folder() -> None:
    (model,) = plan(custom_build_file(Path("/mine/my-build.yaml"))).models
    assert (model.name, model.build_folder) == ("my-model", "/mine")


def test_the_catalogue_serves_a_custom_calculator_too() -> None:
    found = plan(calculator="custom.Calculator@20180408-102900")
    assert found.models[0].name == "20180408-102900"


def test_the_bundled_catalogue_is_read_only_when_it_is_needed() -> None:
    assert resolve(build_file(), given_by()).models == ()
    assert resolve(custom_build_file(), given_by()).models[0].name == "my-model"
    found = resolve(build_file(), given_by(calculator="facenet.Calculator"))
    assert found.models[0].name == "20180402-114759"


def test_a_custom_calculator_without_a_model_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Calculator@nothing") as caught:
        plan(calculator="custom.Calculator@nothing")
    assert_named(caught.value.hint, "models: entry", "/somewhere/plain.yaml")


def test_the_build_file_in_the_error_is_valid() -> None:
    bundled = replace(build_file(), origin="bundled")
    with pytest.raises(ConfigurationError) as caught:
        plan(bundled, calculator="custom.Calculator@my-model")
    sentence, _, shown = str(caught.value.hint).partition("\n")
    assert_named(sentence, "builds/my-build.yaml")
    spec = from_text(shown)
    assert (spec.name, spec.calculator) == ("my-build", "custom.Calculator@my-model")
    assert [one.name for one in spec.models] == ["my-model"]


def test_every_plugin_brings_its_model_and_one_model_serves_two_plugins() -> None:
    build = build_file(
        detector="insightface.FaceDetector",
        calculator="insightface.Calculator@arcface_resnet34",
        plugins=["insightface.AgeDetector", "insightface.GenderDetector", "facenet.PoseEstimator"],
    )
    found = resolve(build, given_by())
    assert [one.name for one in found.models] == [
        "retinaface_mnet025_v1",
        "arcface_resnet34",
        "genderage_v1",
    ]
    assert [one.role for one in found.models] == ["detector", "calculator", "analyzer"]
    assert found.models[0].size is None
    assert found.models[2].align is None


def test_an_entry_of_the_builds_own_goes_before_the_catalogues_of_that_name() -> None:
    mine = [{"path": "mine.json", "sha256": SHA}, {"path": "mine.params", "sha256": SHA}]
    entry = model_entry(name="arcface_resnet34", format="mxnet", files=mine)
    build = build_file(calculator="insightface.Calculator@arcface_resnet34", models=[entry])
    assert resolve(build, given_by()).models[0].files[0].path == "mine.json"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (
            {"detector": "yunet.FaceDetector@scrfd_500m"},
            ("yunet.FaceDetector", "'scrfd.FaceDetector@scrfd_500m'"),
        ),
        ({"detector": "scrfd.FaceDetector@scrfd_500n"}, ("'scrfd_500n'", "'scrfd_500m'")),
        (
            {"calculator": "custom.Calculator@yunet_n"},
            ("custom.Calculator@yunet_n", "calculator", "detector"),
        ),
        ({"plugins": ["dlib.AgeDetector@nothing"]}, ("dlib.AgeDetector@nothing", "'nothing'")),
    ],
)
def test_a_model_that_does_not_fit_its_plugin_is_refused(
    flags: Any, named: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve(build_file(), given_by(**flags))
    assert_named(caught.value.message, *named)


@pytest.mark.parametrize(
    "plugin", ["scrfd.FaceDetector@mine", "genderage.AgeDetector@mine", "custom.Calculator@mine"]
)
def test_the_entry_in_the_error_is_valid_for_every_role(plugin: str) -> None:
    role = plugin_table.model_role(plugin)
    key = {"analyzer": "plugins"}.get(role, role)
    with pytest.raises(ConfigurationError) as caught:
        plan(
            replace(build_file(), origin="bundled"),
            **{key: [plugin] if role == "analyzer" else plugin},
        )
    spec = from_text(str(caught.value.hint).partition("\n")[2])
    assert [(one.name, one.role) for one in spec.models] == [("mine", role)]


@pytest.mark.parametrize(
    ("runtime", "wheels", "kept"),
    [
        ("onnxruntime", "cpu", False),
        ("auto", "openvino", False),
        ("openvino", "openvino", False),
        ("tensorflow", "tensorflow", True),
        ("mxnet", "mxnet", False),
    ],
)
def test_a_runtime_has_its_packages_and_the_files_it_loads(
    runtime: str, wheels: str, kept: bool
) -> None:
    found = plan(runtime=runtime, calculator="facenet.Calculator")
    assert (found.runtime, found.wheels) == (runtime, wheels)
    assert found.models[0].keep_source is kept
    assert found.engine_environment()["CF_RUNTIME"] == runtime


def test_mxnet_keeps_the_files_of_its_own_models() -> None:
    build = build_file(calculator="insightface.Calculator", runtime="mxnet")
    assert resolve(build, given_by()).models[0].keep_source


def test_auto_on_a_gpu_has_the_packages_of_the_gpu() -> None:
    assert plan(runtime="auto", device="cuda").wheels == "cuda13"
    assert plan(runtime="auto", device="cuda", wheels="cuda12").wheels == "cuda12"


@pytest.mark.parametrize("runtime", ["openvino", "tensorflow", "mxnet"])
def test_a_runtime_of_the_cpu_is_refused_on_a_gpu(runtime: str) -> None:
    with pytest.raises(ConfigurationError, match=f"runtime {runtime}"):
        plan(runtime=runtime, device="cuda")


def test_precision_and_tolerance_come_from_flag_or_build() -> None:
    build = build_file(runtime="auto", precision="bf16", min_cosine=0.999)
    variables = plan(build).engine_environment()
    assert (variables["CF_PRECISION"], variables["CF_MIN_COSINE"]) == ("bf16", "0.999")
    assert plan(build, min_cosine=0.99).min_cosine == 0.99
    assert plan().engine_environment()["CF_MIN_COSINE"] == "0.998"
    assert plan(build).image != plan(build, min_cosine=0.99).image


@pytest.mark.parametrize(
    ("flags", "named", "known"),
    [
        ({"detector": "facenet.FaceDetecter"}, "'facenet.FaceDetector'", "facenet.FaceDetector"),
        ({"detector": "facenet.Calculator"}, "facenet.Calculator", "facenet.FaceDetector"),
        ({"calculator": "x.Y"}, "'x.Y'", "facenet.Calculator"),
        ({"plugins": ["facenet.Pose"]}, "'facenet.Pose'", "facenet.PoseEstimator"),
    ],
)
def test_an_unknown_plugin_is_refused(flags: dict[str, Any], named: str, known: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        plan(**flags)
    assert_named(caught.value.hint, known)


def test_a_build_that_names_no_plugins_has_what_the_ui_reads() -> None:
    made = plan()
    assert made.plugins == plugin_table.UI_PLUGINS
    assert made.origins["plugins"] == "default"
    assert made.models == ()
    assert [one for one in ui.judge(made) if one.level != "ok"] == []


def test_no_plugins_is_not_the_default_plugins() -> None:
    file = build_file(plugins=[])
    made = resolve(file, Settings(), catalogue=catalogue())
    assert made.engine_environment()["EXTRA_PLUGINS"] == ","


def test_concurrency_is_left_to_the_engine_unless_it_was_set() -> None:
    assert "CF_MAX_CONCURRENCY" not in plan().engine_environment()
    assert plan(max_concurrency=3).engine_environment()["CF_MAX_CONCURRENCY"] == "3"


def test_names_follow_the_instance() -> None:
    found = plan(instance="second")
    assert (found.project, found.volume) == ("cf-second", "cf-second_postgres-data")
    assert plan().instance == "plain"


def test_images_of_the_stack_follow_registry_and_version_or_a_whole_name() -> None:
    found = plan(registry="", fe_version="9", admin_image="here/admin:1").stack_images
    assert found == {
        "compreface-postgres-db": "compreface-postgres-db:1.2.0",
        "compreface-admin": "here/admin:1",
        "compreface-api": "compreface-api:1.2.0",
        "compreface-fe": "compreface-fe:9",
    }


def test_passwords_are_not_shown() -> None:
    found = plan(postgres_password="hunter2")
    assert found.secrets == {"postgres_password": "hunter2"}
    assert "hunter2" not in json.dumps(found.as_dict())
    assert "hunter2" not in repr(found)


def test_different_engines_have_different_image_names() -> None:
    base = plan()
    assert base.image.startswith("compreface-core:plain-")
    for other in (
        plan(plugins=["facenet.PoseEstimator"]),
        plan(device="cuda"),
        plan(gpu_index=1),
        plan(base_image="python:3.12-slim"),
        plan(calculator="facenet.Calculator"),
    ):
        assert other.image != base.image
    assert plan(max_detect_size=1, port=1, instance="x").image == base.image
    assert plan(image="mine:1").image == "mine:1"


def test_where_a_build_file_lies_does_not_change_the_image() -> None:
    here, there = (custom_build_file(Path(f"/{one}/my-build.yaml")) for one in ("a", "b"))
    assert plan(here).image == plan(there).image


def test_an_alternative_changes_the_image_and_a_stated_size_does_not() -> None:
    def image(**entry: Any) -> str:
        return plan(custom_build_file(models=[model_entry(**entry)])).image

    file = {"path": "my-model.onnx", "sha256": SHA}
    other = {"format": "onnx", "files": [{"path": "other.onnx"}]}
    assert image(files=[file]) == image(files=[{**file, "bytes": 7}])
    assert image(files=[file]) != image(files=[file], alternatives=[other])


flags = st.fixed_dictionaries(
    {},
    optional={
        "device": st.sampled_from(["cpu", "cuda"]),
        "gpu_index": st.integers(0, 63),
        "detector": st.sampled_from(plugin_table.known("detector")),
        "calculator": st.sampled_from(plugin_table.known("calculator")),
        "plugins": st.lists(
            st.sampled_from(plugin_table.known("analyzer")), unique=True, max_size=3
        ),
        "services": st.sampled_from(["full", "core"]),
        "launcher": st.sampled_from(["auto", "compose", "process"]),
        "port": st.one_of(st.just("auto"), st.integers(1, 65535)),
        "core_port": st.one_of(st.just("auto"), st.integers(1, 65535)),
        "bind": st.sampled_from(["127.0.0.1", "0.0.0.0", "::"]),
        "max_concurrency": st.integers(0, 1024),
        "max_wait_s": st.floats(0.5, 600),
        "postgres_password": st.text(st.characters(min_codepoint=32), min_size=1, max_size=20),
        "registry": st.sampled_from(["", "exadel/", "localhost:5000/"]),
    },
)


KNOWN = bundled_catalogue()


def test_behind_the_api_the_queue_holds_all_that_the_api_can_send() -> None:
    found = plan()
    queue = {"CF_MAX_QUEUE": "256", "CF_RETRY_AFTER": "false", "CF_DRAIN_S": "30"}
    assert queue.items() <= found.engine_environment().items()
    assert found.engine_environment()["CF_MAX_WAIT_S"] == "50"
    assert found.origins["max_wait_s"] == "the full stack, from read_timeout"
    # The api gives up after read_timeout; the engine answers before.
    assert plan(read_timeout=5000).max_wait_s == 4
    assert plan(read_timeout=600_000).max_wait_s == 590


def test_values_that_were_set_are_kept_behind_the_api() -> None:
    found = plan(max_queue=8, max_wait_s=2.5)
    assert found.engine_limits["CF_MAX_QUEUE"] == "8"
    assert (found.max_wait_s, found.origins["max_wait_s"]) == (2.5, "flag max_wait_s")
    assert plan(build_file(limits={"max_wait_s": 3})).max_wait_s == 3


@pytest.mark.parametrize("flags", [{"services": "core"}, {"launcher": "process"}])
def test_an_engine_alone_keeps_its_short_queue(flags: dict[str, Any]) -> None:
    for found in (plan(**flags), with_launcher(plan(), "process")):
        assert (found.max_wait_s, found.origins["max_wait_s"]) == (10.0, "default")
        assert found.engine_limits == {}
    assert with_launcher(plan(max_queue=8, max_wait_s=2), "process").engine_limits == {
        "CF_MAX_QUEUE": "8"
    }
    assert with_launcher(plan(max_queue=8, max_wait_s=2), "process").max_wait_s == 2


@given(flags)
def test_any_choice_gives_one_settled_plan(chosen: dict[str, Any]) -> None:
    settings = given_by(**chosen)
    first = resolve(build_file(), settings, catalogue=KNOWN)
    second = resolve(build_file(), settings, catalogue=KNOWN)
    assert first == second
    document = json.loads(json.dumps(first.as_dict()))
    assert [key for key, value in document.items() if value is None] == ["data"]
    for key, value in chosen.items():
        if key in document and key not in ("gpu_index", "services", "device", "max_wait_s"):
            assert document[key] == value
    assert (first.device == "cuda") == (first.gpu_index >= 0) == (first.wheels != "cpu")
    assert all(isinstance(one, str) for one in first.engine_environment().values())
    named = plugin_table.models_of((first.detector, first.calculator, *first.plugins))
    assert tuple(one.name for one in first.models) == named


@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorflow", "mxnet"])
def test_bf16_for_a_runtime_without_it_is_refused(runtime: str) -> None:
    words = rf"bf16.*build plain.*runtime: {runtime} .flag --runtime"
    with pytest.raises(ConfigurationError, match=words) as found:
        plan(build_file(runtime="auto", precision="bf16"), runtime=runtime)
    assert found.value.code == 3
    assert "runtime: openvino" in (found.value.hint or "")
    with pytest.raises(ConfigurationError, match="flag --precision"):
        plan(build_file(runtime=runtime), precision="bf16")


def test_bf16_is_refused_for_a_gpu() -> None:
    with pytest.raises(ConfigurationError, match=r"bf16.*device: cuda"):
        plan(build_file(runtime="auto", precision="bf16"), device="cuda")


@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_bf16_is_taken_by_the_runtimes_that_have_it(runtime: str) -> None:
    assert plan(build_file(runtime=runtime, precision="bf16")).precision == "bf16"
