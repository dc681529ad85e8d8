"""Another build for an instance, and its own again, with all that `cf up` was given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.config import settings
from compreface_cli.deploy import same_settings
from compreface_cli.instance.records import Record
from compreface_cli.plan.data import Data, on
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import plan_of
from compreface_cli.terminal.output import Output

FLAGS = {
    "instance": "office",
    "launcher": "compose",
    "port": 8111,
    "core_port": 3111,
    "runtime": "onnxruntime",
    "plugins": ["facenet.LandmarksDetector"],
}
ENVIRONMENT = {
    "CF_REGISTRY": "registry.example/",
    "CF_ADMIN_IMAGE": "other.example/admin:7",
    "CF_MAX_DETECT_SIZE": "512",
    "CF_MAX_QUEUE": "77",
    "CF_RATE_LIMIT": "9.5",
    "CF_MEMORY_LIMIT": "3g",
    "CF_POSTGRES_DB": "faces",
    "CF_MAX_FILE_SIZE": "7M",
    "CF_READ_TIMEOUT": "50000",
    "CF_API_REPLICAS": "2",
    "CF_ALLOW_SEVERAL_APIS": "true",
}


def planned(build: str, flags: dict[str, Any], environ: dict[str, str], folder: Path) -> Plan:
    absent = folder / "none.yaml"
    chosen = settings.resolve(
        {"build": build, **flags}, environ=environ, project_file=absent, user_file=absent
    )
    return plan_of(build, chosen)


def recorded(plan: Plan) -> Record:
    """The record of an instance with this plan, as it comes from the disk."""
    document = json.loads(json.dumps(plan.as_dict(), default=str))
    return Record(
        plan.instance, plan.build, plan.calculator, plan.services, "running", "", plan=document
    )


def compared(plan: Plan) -> Plan:
    return replace(plan, origins={}, accept_licence=())


@pytest.fixture(autouse=True)
def another_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In which other settings hold."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CF_PORT", "9999")
    monkeypatch.setenv("CF_REGISTRY", "wrong.example/")


@pytest.mark.parametrize("flags", [FLAGS, {"instance": "plain", "launcher": "compose"}])
@pytest.mark.parametrize("environ", [ENVIRONMENT, {}], ids=["set", "unset"])
def test_its_own_plan_again(flags: dict[str, Any], environ: dict[str, str], tmp_path: Path) -> None:
    plan = planned("embedded", flags, environ, tmp_path)
    again = same_settings.as_it_was(recorded(plan), Output(quiet=True))
    assert compared(again) == compared(plan)


@pytest.mark.parametrize("environ", [ENVIRONMENT, {}], ids=["set", "unset"])
def test_another_build_keeps_what_is_the_instances(environ: dict[str, str], tmp_path: Path) -> None:
    plan = planned("embedded", FLAGS, environ, tmp_path)
    instance = {key: FLAGS[key] for key in ("instance", "launcher", "port", "core_port")}
    wanted = planned("facenet", instance, environ, tmp_path)
    assert compared(same_settings.with_build(recorded(plan), "facenet")) == compared(wanted)


def test_a_build_file_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "schema: 1\nname: mine\nsummary: mine\ndetector: embedded.FaceDetector@mtcnn\n"
        "calculator: embedded.Calculator@mobilefacenet192\n"
    )
    plan = planned(str(path), FLAGS, {}, tmp_path)
    again = same_settings.as_it_was(recorded(plan), Output(quiet=True))
    assert compared(again) == compared(plan)
    assert again.origins["build"] == str(path)


def test_an_instance_stays_on_the_volume_that_it_uses(tmp_path: Path) -> None:
    data = Data("shop_postgres-data", "exadel/compreface-postgres-db:1.1.0", "me", "faces")
    plan = on(planned("embedded", FLAGS, {}, tmp_path), data)
    again = same_settings.as_it_was(recorded(plan), Output(quiet=True))
    assert again.data == data
    assert again.volume == "shop_postgres-data"
    assert again.stack == plan.stack
    assert same_settings.with_build(recorded(plan), "facenet").volume == "shop_postgres-data"
