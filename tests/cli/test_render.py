"""The rendered project: literal values, safe doors, and variables that the engine knows."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compreface_cli import resources
from compreface_cli.builds.builds import BuildFile
from compreface_cli.config.settings import resolve as resolve_settings
from compreface_cli.errors import CfError, ConfigurationError, FetchError
from compreface_cli.plan.plan import Plan, resolve
from compreface_cli.project.rendered import FileRef, RenderedProject
from compreface_cli.project.targets import compose as target
from compreface_cli.project.targets.templating import env_quoted, env_text, quoted
from compreface_engine.settings import Settings as EngineSettings
from tests.cli.build_files import build_file, catalogue, custom_build_file
from tests.cli.test_plan import NOWHERE

REVISION = "0" * 40
ROWS: dict[str, dict[str, Any]] = {
    "cpu": {},
    "cuda13": {"device": "cuda"},
    "cuda12": {"device": "cuda", "wheels": "cuda12"},
}


def plan(build: BuildFile | None = None, **flags: Any) -> Plan:
    chosen = resolve_settings(flags, environ={}, project_file=NOWHERE, user_file=NOWHERE)
    return resolve(build or build_file(), chosen, catalogue=catalogue())


def project(build: BuildFile | None = None, /, **flags: Any) -> RenderedProject:
    return target.render(plan(build, **flags), with_models=False, revision=REVISION)


def compose(build: BuildFile | None = None, **flags: Any) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(str(project(build, **flags).files["compose.yaml"]))
    return document


def dockerfile(build: BuildFile | None = None, **flags: Any) -> str:
    return str(project(build, **flags).files["core/Dockerfile"])


def baked(text: str) -> dict[str, str]:
    """ENV lines that stand alone, as the engine finds them."""
    lines = [line[4:] for line in text.splitlines() if line.startswith("ENV ") and '="' in line]
    return {key: json.loads(value) for key, value in (line.split("=", 1) for line in lines)}


def test_the_same_plan_gives_the_same_bytes() -> None:
    assert project() == project()
    assert project().digest() == project().digest()
    assert project().digest() != project(port=1).digest()


def test_the_full_stack_has_the_five_services_by_upstreams_names() -> None:
    assert set(compose()["services"]) == {
        "compreface-postgres-db",
        "compreface-admin",
        "compreface-api",
        "compreface-fe",
        "compreface-core",
    }
    assert set(compose(services="core")["services"]) == {"compreface-core"}
    assert "volumes" not in compose(services="core")


def test_ports_stay_on_loopback_unless_they_are_bound_elsewhere() -> None:
    services = compose(bind="0.0.0.0")["services"]
    # The UI passes the engine's port on, so that two engines can stand behind it.
    assert services["compreface-fe"]["ports"] == ["0.0.0.0:8000:80", "127.0.0.1:3000:3000"]
    assert services["compreface-core"]["ports"] == ["127.0.0.1::3000"]
    alone = compose(bind="::1", services="core", port=3333)["services"]
    assert alone["compreface-core"]["ports"] == ["[::1]:3333:3000"]
    open_doors = {name for name, one in compose()["services"].items() if "ports" in one}
    assert open_doors == {"compreface-fe", "compreface-core"}


def test_the_volume_says_whose_embeddings_it_holds() -> None:
    volume = compose(instance="second")["volumes"]["postgres-data"]
    assert volume == {
        "name": "cf-second_postgres-data",
        "labels": {
            "compreface-cli.instance": "second",
            "compreface-cli.calculator": "embedded.Calculator@mobilefacenet192",
        },
    }


def test_admin_migrates_before_api_starts() -> None:
    services = compose()["services"]
    assert "compreface-admin" in services["compreface-api"]["depends_on"]
    assert "compreface-api" not in services["compreface-admin"]["depends_on"]
    for service in services.values():
        for condition in service.get("depends_on", {}).values():
            assert condition == {"condition": "service_healthy"}


def test_the_ui_has_no_dependency_and_is_healthy_when_all_three_services_answer_through_it() -> (
    None
):
    fe = compose()["services"]["compreface-fe"]
    assert "depends_on" not in fe
    template = "nginx.conf.template"
    assert fe["volumes"] == [f"./ui/{template}:/etc/nginx/templates/{template}:ro,z"]
    for route in ("/admin/status", "/api/v1/consistence/status", "/core/status"):
        assert route in fe["healthcheck"]["test"][-1]
    assert "ui/nginx.conf.template" not in project(services="core").files


def test_public_keys_and_routes_without_a_key_are_served_only_with_open_routes() -> None:
    closed, opened = (
        str(project(open_routes=value).files["ui/nginx.conf.template"]) for value in (False, True)
    )
    assert "location = /core/status" in closed
    for text in ("$public_key", "/api/v1/migrate", "/admin/user/demo"):
        assert text in closed
        assert text not in opened


def test_changed_routes_give_the_ui_a_new_container() -> None:
    def label(**flags: Any) -> str:
        labels = compose(**flags)["services"]["compreface-fe"]["labels"]
        return str(labels["compreface-cli.routes"])

    assert label(max_body_bytes=2**21) != label()
    assert label(port=1, instance="other", max_detect_size=1) == label()


def test_the_api_finds_the_engine_anew_and_asks_the_other_one() -> None:
    def environment(**flags: Any) -> dict[str, str]:
        found: dict[str, str] = compose(**flags)["services"]["compreface-api"]["environment"]
        return found

    assert environment()["API_JAVA_OPTS"] == "-Xmx4g -Dsun.net.inetaddr.ttl=0"
    assert environment()["MAX_ATTEMPTS"] == "10"
    own = environment(api_java_options="-Xmx2g -Dsun.net.inetaddr.ttl=5")
    assert own["API_JAVA_OPTS"] == "-Xmx2g -Dsun.net.inetaddr.ttl=5"
    assert environment(api_java_options="")["API_JAVA_OPTS"] == "-Dsun.net.inetaddr.ttl=0"


def test_an_engine_is_given_longer_to_end_than_it_needs_to_drain() -> None:
    for core, drain_s in (
        (compose()["services"]["compreface-core"], 30),
        (compose(drain_s=90)["services"]["compreface-core"], 90),
    ):
        assert core["environment"]["CF_DRAIN_S"] == str(drain_s)
        assert core["stop_grace_period"] == f"{drain_s + 10}s"
    assert compose(services="core")["services"]["compreface-core"]["stop_grace_period"] == "16s"
    assert (
        "CF_DRAIN_S" not in compose(services="core")["services"]["compreface-core"]["environment"]
    )


def test_a_gpu_is_reserved_by_its_number_and_is_the_only_one_inside() -> None:
    core = compose(gpu_index=1, services="core")["services"]["compreface-core"]
    assert core["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "device_ids": ["1"], "capabilities": ["gpu"]}
    ]
    assert core["environment"]["GPU_IDX"] == "0"
    assert baked(dockerfile(gpu_index=1))["GPU_IDX"] == "1"
    assert "deploy" not in compose()["services"]["compreface-core"]


def test_the_requirements_are_those_of_the_plans_wheels() -> None:
    for row, flags in ROWS.items():
        content = project(**flags).files["core/requirements.txt"]
        assert isinstance(content, FileRef)
        assert content.source == resources.engine_requirements(row)


def test_no_image_gets_the_converter_or_what_it_needs() -> None:
    for flags in ROWS.values():
        files = project(**flags).files
        wheels = [Path(name).name for name in files if name.endswith(".whl")]
        assert wheels == [resources.engine_wheel().name]
        assert "compreface_convert" not in str(files["core/Dockerfile"])
        content = files["core/requirements.txt"]
        assert isinstance(content, FileRef)
        pinned = [line.partition("==")[0] for line in content.source.read_text().splitlines()]
        assert "onnxruntime" in " ".join(pinned)
        assert "onnx" not in pinned


@pytest.mark.parametrize(
    "build",
    [
        build_file(),
        custom_build_file(),
        build_file(device="cuda"),
        build_file(runtime="auto", precision="fp32", min_cosine=0.99),
    ],
)
def test_the_engine_reads_every_variable_that_is_rendered(build: BuildFile, tmp_path: Path) -> None:
    flags = {"max_concurrency": 2, "max_detect_size": 512}
    environment = baked(dockerfile(build, **flags))
    environment |= compose(build, **flags)["services"]["compreface-core"]["environment"]
    if "CF_MODELS_DIR" in environment:
        environment["CF_MODELS_DIR"] = str(tmp_path)
    read: set[str] = set()

    class Watched(dict[str, str]):
        def get(self, key: str, default: Any = None) -> Any:
            read.add(key)
            return super().get(key, default)

        def __getitem__(self, key: str) -> str:
            read.add(key)
            return super().__getitem__(key)

    engine = EngineSettings.from_env(Watched(environment))
    assert set(environment) <= read
    assert engine.warnings == ()
    assert engine.detector == "embedded.FaceDetector@mtcnn"
    assert (engine.max_concurrency, engine.img_length_limit) == (2, 512)
    assert engine.host == "0.0.0.0"


def test_the_image_tells_what_is_in_it() -> None:
    folder = Path(__file__).parents[2] / "engine" / "compreface_engine" / "embedded_models"
    text = dockerfile()
    assert f'LABEL org.opencontainers.image.revision="{REVISION}"' in text
    assert 'LABEL compreface-cli.build="plain"' in text
    for model in folder.glob("*.onnx"):
        assert f"{model.stem}={hashlib.sha256(model.read_bytes()).hexdigest()}" in text


def prepared(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    (folder / name / "model.json").write_text("{}")
    (folder / name / "model.onnx").write_bytes(b"network")
    (folder / name / "known.npy").write_bytes(b"not for the image")
    return folder / name


def test_prepared_models_come_into_the_image_and_its_label(tmp_path: Path) -> None:
    wanted = plan(custom_build_file())
    made = target.render(wanted, {"my-model": prepared(tmp_path, "my-model")})
    assert {path for path in made.files if path.startswith("core/models/")} == {
        "core/models/my-model/model.json",
        "core/models/my-model/model.onnx",
    }
    text = str(made.files["core/Dockerfile"])
    assert "COPY models/my-model/ /models/my-model/" in text
    assert 'ENV CF_MODELS_DIR="/models"' in text
    assert f"my-model={hashlib.sha256(b'network').hexdigest()}" in text


def test_a_runtime_that_loads_the_source_files_finds_them_in_the_image(tmp_path: Path) -> None:
    folder = prepared(tmp_path, "20180402-114759")
    (folder / "source").mkdir()
    (folder / "source" / "20180402-114759.pb").write_text("graph")
    flags: dict[str, Any] = {"calculator": "facenet.Calculator"}
    models = {"20180402-114759": folder}
    inside = "core/models/20180402-114759/source/20180402-114759.pb"
    assert inside in target.render(plan(runtime="tensorflow", **flags), models).files
    assert inside not in target.render(plan(**flags), models).files


def test_what_was_chosen_to_compute_is_baked_into_the_image() -> None:
    chosen: dict[str, Any] = {"runtime": "auto", "precision": "bf16", "min_cosine": 0.999}
    found = baked(dockerfile(**chosen))
    assert (found["CF_RUNTIME"], found["CF_PRECISION"]) == ("auto", "bf16")
    assert (found["CF_MIN_COSINE"], found["CF_CHOICES_DIR"]) == ("0.999", "/tmp/runtimes")
    assert 'LABEL compreface-cli.runtime="auto bf16"' in dockerfile(**chosen)
    assert "CF_CHOICES_DIR" not in baked(dockerfile())


def test_a_model_that_is_not_prepared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="my-model") as caught:
        target.render(plan(custom_build_file()))
    assert caught.value.code == 9
    (prepared(tmp_path, "my-model") / "model.onnx").unlink()
    with pytest.raises(FetchError):
        target.render(plan(custom_build_file()), {"my-model": tmp_path / "my-model"})


@pytest.mark.parametrize("flag", ["port", "core_port"])
def test_a_port_that_only_a_start_can_settle_is_refused(flag: str) -> None:
    with pytest.raises(ConfigurationError, match=flag):
        project(None, **{flag: "auto"})


def test_passwords_stand_in_no_rendered_file() -> None:
    made = project(postgres_password="hunter2", email_password="hunter3")
    assert not any("hunter" in str(content) for content in made.files.values())
    assert made.secrets == {"postgres_password": "hunter2", "email_password": "hunter3"}
    assert "hunter" not in repr(made)


line = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=30)


@given(line)
@example("a$b ${HOME} $$")
def test_any_text_reaches_compose_as_it_was_given(value: str) -> None:
    found = yaml.safe_load(f"key: {quoted(value)}")["key"]
    assert found == value.replace("$", "$$")  # which Compose reads as one dollar sign each


@given(line)
@example("a$b ${HOME} $$")
@settings(max_examples=20)
def test_a_setting_with_any_text_renders_to_sound_yaml(value: str) -> None:
    admin = compose(email_from=value)["services"]["compreface-admin"]
    assert admin["environment"]["EMAIL_FROM"] == value.replace("$", "$$")


def test_a_password_is_quoted_for_the_env_file() -> None:
    assert env_quoted("a$b #c") == "'a$b #c'"
    assert env_quoted("a\\") == '"a\\\\"'
    assert env_quoted('it\'s $5 \\ "x"') == '"it\'s \\$5 \\\\ \\"x\\""'
    assert env_text("x", {"A": "1"}).splitlines()[-1] == "A='1'"


class TestTemplatesThatAreWrong:
    """A rendered Compose file is read again before it counts."""

    @pytest.fixture(autouse=True)
    def other_templates(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copytree(resources.templates_dir(), tmp_path, dirs_exist_ok=True)
        self.compose = tmp_path / "compose.yaml.j2"
        monkeypatch.setattr(resources, "templates_dir", lambda: tmp_path)

    @pytest.mark.parametrize("text", ["a: [", "services: {}", "just text", "name: x: y"])
    def test_what_does_not_parse_is_not_rendered(self, text: str) -> None:
        self.compose.write_text(text)
        with pytest.raises(CfError) as caught:
            project()
        assert caught.type is CfError

    def test_a_compose_file_that_differs_from_the_plan_is_not_written(self) -> None:
        text = self.compose.read_text().replace("{{ project | q }}", "other")
        self.compose.write_text(text)
        with pytest.raises(CfError) as caught:
            project()
        assert caught.type is CfError


def test_the_hash_of_a_file_is_empty_where_it_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    assert target.hash_of(str(file)) == ""
    file.write_bytes(b"certificate")
    assert target.hash_of(str(file)) == hashlib.sha256(b"certificate").hexdigest()
