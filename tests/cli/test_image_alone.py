"""`cf up --image NAME`: the labels of an image describe the build that it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from compreface_cli import resources
from compreface_cli.builds import builds
from compreface_cli.builds.builds import BuildFile
from compreface_cli.config.settings import Settings, Value, resolve
from compreface_cli.deploy import image_alone
from compreface_cli.deploy import up as deploy
from compreface_cli.docker import labels as names
from compreface_cli.engine import known_answer
from compreface_cli.engine.known_answer import KnownAnswer
from compreface_cli.errors import ConfigurationError, FetchError, UsageError
from compreface_cli.plan import plan as plans
from compreface_cli.plan.operations import Options
from compreface_cli.plan.plan import Plan
from compreface_cli.project.targets import compose as target
from compreface_cli.terminal.output import Output
from tests.cli.build_files import build_data, build_file, custom_build_file, model_entry, write
from tests.cli.fake_docker import FakeDocker, fake_docker
from tests.cli.names import assert_named

NAME = "registry.example/team/engine:1"
QUIET = Output(quiet=True)
# What decides how an engine of that image is started and checked.
SAME = (
    "build", "detector", "calculator", "plugins", "runtime", "precision", "min_cosine", "device",
    "wheels", "max_detect_size", "max_concurrency", "max_wait_s", "memory_limit", "summary",
)  # fmt: skip


def labels_of(plan: Plan, answer: KnownAnswer | None = None) -> dict[str, str]:
    """The labels of an image that `cf` built for this plan."""
    files = target.render(plan, with_models=False).files
    text = str(files["core/Dockerfile"])
    labels = {}
    for line in text.splitlines():
        if line.startswith("LABEL "):
            key, _, value = line.removeprefix("LABEL ").partition("=")
            labels[key] = json.loads(value.replace("\\$", "$"))
    if answer is not None:
        labels[names.LABEL_ANSWER] = known_answer.label_of(answer)
    return labels


def settled(build: BuildFile, settings: Settings | None = None) -> Plan:
    return plans.resolve(build, settings or Settings())


def bundled() -> list[str]:
    return sorted(path.stem for path in resources.builds_dir().glob("*.yaml"))


@pytest.mark.parametrize("name", bundled())
def test_every_bundled_build_is_described_by_its_image(name: str) -> None:
    plan = settled(builds.load(resources.builds_dir() / f"{name}.yaml"))
    labels = labels_of(plan)
    described = image_alone.build_of(NAME, labels)
    again = settled(described, image_alone.settings_for(Settings(), labels, QUIET))
    assert {key: getattr(again, key) for key in SAME} == {key: getattr(plan, key) for key in SAME}
    assert (again.models, again.image_alone, plan.image_alone) == ((), True, False)


@pytest.mark.parametrize("at_once", [None, 3])
def test_limits_and_a_model_of_the_builds_own_are_described(
    tmp_path: Path, at_once: int | None
) -> None:
    limits = {"max_detect_size": 320, "max_concurrency": at_once, "max_wait_s": 2.5}
    path = write(tmp_path, build_data(limits=limits, plugins=[], min_cosine=0.99, runtime="auto"))
    plan = settled(builds.load(path))
    answer = KnownAnswer(
        plan.calculator, (1.5, 2, 30, 40), (0.25, -1e-7), (1.1, 6.0), 0.5, "", border=0.3
    )
    described = image_alone.build_of(NAME, labels_of(plan, answer))
    again = settled(described)
    assert {key: getattr(again, key) for key in SAME} == {key: getattr(plan, key) for key in SAME}
    expected = image_alone.answer_of(again, labels_of(plan, answer))
    assert expected.border == 0.3
    assert (expected.box, expected.similarity) == (answer.box, answer.similarity)
    assert expected.embedding == pytest.approx(answer.embedding)
    assert expected.shrink == 320 / 512


def test_a_project_of_an_image_alone_builds_nothing() -> None:
    described = image_alone.build_of(NAME, labels_of(settled(build_file())))
    rendered = target.render(settled(described, Settings({"image": Value(NAME, "flag", "flag")})))
    assert not [path for path in rendered.files if path.startswith("core/")]
    text = str(rendered.files[target.COMPOSE_FILE])
    assert NAME in text
    assert "\n    build:" not in text
    assert "core/" not in str(rendered.files["README.md"])


@pytest.mark.parametrize("missing", image_alone.NEEDED)
def test_a_label_that_is_missing_is_named(missing: str) -> None:
    labels = labels_of(settled(build_file()))
    del labels[missing]
    with pytest.raises(ConfigurationError) as refused:
        image_alone.build_of(NAME, labels)
    assert refused.value.details == {"image": NAME, "missing": [missing]}
    assert_named(refused.value.message, NAME, missing)


def test_an_image_of_somebody_else_is_refused_with_all_that_it_lacks() -> None:
    with pytest.raises(ConfigurationError) as refused:
        image_alone.build_of("exadel/compreface-core:1.2.0", {"maintainer": "exadel"})
    assert refused.value.details["missing"] == list(image_alone.NEEDED)


def test_an_answer_is_needed_unless_cf_ships_one() -> None:
    own = settled(custom_build_file(models=[model_entry()]))
    labels = labels_of(own)
    described = settled(image_alone.build_of(NAME, labels))
    with pytest.raises(ConfigurationError) as refused:
        image_alone.answer_of(described, labels)
    assert refused.value.details["missing"] == [names.LABEL_ANSWER]
    embedded = settled(build_file())
    assert image_alone.answer_of(embedded, labels_of(embedded)).embedding


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "[" * 50_000, '{"border": 1}', '{"border": null, "similarity": [1, 2]}',
        '{"box": [1], "embedding": [1], "similarity": [1, 2], "border": 0.5}',
        '{"box": [1, 2, 3, 4], "embedding": ["a"], "similarity": [1, 2], "border": 0.5}',
    ],
)  # fmt: skip
def test_a_damaged_answer_is_refused(text: str) -> None:
    plan = settled(build_file())
    with pytest.raises(ConfigurationError) as refused:
        image_alone.answer_of(plan, labels_of(plan) | {names.LABEL_ANSWER: text})
    assert_named(refused.value.message, names.LABEL_ANSWER)


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (names.LABEL_BUILD, "../up"),
        (names.LABEL_DETECTOR, "future.Detector"),
        (names.LABEL_CALCULATOR, "embedded.FaceDetector@mtcnn"),
        (names.LABEL_PLUGINS, "a,b"),
        (names.LABEL_RUNTIME, "future fp8"),
        (names.LABEL_RUNTIME, ""),
        (names.LABEL_MIN_COSINE, "much"),
        (names.LABEL_DEVICE, "tpu"),
        (names.LABEL_LIMITS, "max_wait_s=-1"),
        (names.LABEL_LIMITS, "more=1"),
        ("org.opencontainers.image.base.name", "Not An Image"),
    ],
)
def test_labels_that_describe_no_build_are_refused(label: str, value: str) -> None:
    labels = labels_of(settled(build_file())) | {label: value}
    with pytest.raises(ConfigurationError) as refused:
        image_alone.build_of(NAME, labels)
    assert_named(refused.value.message, NAME)


# --- which image is meant, and what may be said beside it ------------------------------------


def given(**values: str) -> Settings:
    return Settings({key: Value(value, "flag", f"flag {key}") for key, value in values.items()})


def test_an_image_is_alone_where_nothing_names_a_build() -> None:
    assert image_alone.asked(given(image=NAME)) == NAME
    assert image_alone.asked(given(image=NAME, build="embedded")) == ""
    assert image_alone.asked(given(build="embedded")) == ""
    elsewhere = Settings({"image": Value(NAME, "environment", "environment CF_IMAGE")})
    assert image_alone.asked(elsewhere) == NAME
    process = Value("process", "flag", "flag --launcher")
    assert image_alone.asked(Settings({**elsewhere.values, "launcher": process})) == ""
    with pytest.raises(UsageError):
        image_alone.asked(Settings({**given(image=NAME).values, "launcher": process}))


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDocker]:
    for name in ("DATA", "STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        yield stack.enter_context(fake_docker(tmp_path / "fake"))


def holds(docker: FakeDocker, labels: Mapping[str, str]) -> None:
    row: dict[str, Any] = {"Id": "sha256:1", "Size": 5, "Config": {"Labels": dict(labels)}}
    docker.holds[f"/images/{NAME}/json"] = row


def test_the_plan_is_of_the_image(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    holds(docker, labels_of(settled(build_file(name="office"))))
    monkeypatch.setenv("CF_RUNTIME", "openvino")
    monkeypatch.setenv("CF_PORT", "4321")
    plan = deploy.resolve({"image": NAME}, QUIET)
    assert (plan.build, plan.instance, plan.image) == ("office", "office", NAME)
    assert (plan.runtime, plan.port, plan.launcher) == ("onnxruntime", 4321, "compose")


def test_flags_that_would_change_the_image_are_refused(docker: FakeDocker) -> None:
    holds(docker, labels_of(settled(build_file())))
    for flags in (
        {"detector": "facenet.FaceDetector"},
        {"runtime": "openvino"},
        {"device": "cuda"},
    ):
        with pytest.raises(UsageError):
            deploy.resolve({"image": NAME, **flags}, QUIET)
    with pytest.raises(UsageError):
        deploy.resolve({"image": NAME}, QUIET, Options(build=True))


def test_a_dry_run_pulls_nothing(docker: FakeDocker) -> None:
    with pytest.raises(FetchError) as refused:
        deploy.resolve({"image": NAME}, QUIET, Options(dry_run=True))
    assert_named(refused.value.message, NAME)
    assert not docker.was_asked(["pull"])


def test_a_named_build_is_taken_from_its_file(docker: FakeDocker) -> None:
    holds(docker, {})
    plan = deploy.resolve({"image": NAME, "build": "embedded"}, QUIET)
    assert (plan.build, plan.image_alone) == ("embedded", False)


def test_the_setting_of_a_build_counts_as_its_name(
    docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CF_BUILD", "embedded")
    assert image_alone.asked(resolve({"image": NAME})) == ""
