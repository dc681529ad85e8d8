"""Several api processes: refused unless the user insists, a warning at each start afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from compreface_cli import checks
from compreface_cli.checks import apis
from compreface_cli.inspect.status import Status
from tests.cli.fake_facts import docker, facts, plan
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named
from tests.cli.records import STACK, record


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


def of_apis(**values: Any) -> list[checks.Finding]:
    findings = checks.preflight(plan(**values), facts(docker=docker()))
    return [finding for finding in findings if finding.check == apis.NAME]


def test_one_api_gives_no_finding() -> None:
    assert of_apis() == []


@pytest.mark.parametrize("values", [{"services": "core"}, {"launcher": "process"}])
def test_the_engine_alone_has_no_api(values: dict[str, Any]) -> None:
    assert of_apis(api_replicas=2, **values) == []


def test_several_are_refused_and_the_way_to_insist_is_named() -> None:
    (finding,) = of_apis(api_replicas=2, origins={"api_replicas": "environment CF_API_REPLICAS"})
    assert (finding.level, finding.code, finding.topic) == ("fail", 3, apis.SEVERAL)
    assert_named(finding.message, "api_replicas: 2", "CF_API_REPLICAS", apis.DRIFT)
    assert_named(finding.hint, "--several-apis", "CF_ALLOW_SEVERAL_APIS")


def test_after_insisting_it_is_a_warning() -> None:
    (finding,) = of_apis(api_replicas=2, allow_several_apis=True)
    assert (finding.level, finding.code, finding.topic) == ("warn", 0, apis.SEVERAL)
    assert_named(finding.message, apis.DRIFT)


def test_render_refuses_and_leaves_no_folder_until_the_user_insists(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CF_API_REPLICAS", "3")
    refused = cf("render", "embedded", "-o", "out")
    assert refused.code == 3
    assert_named(refused.err, apis.DRIFT, "--several-apis", apis.SEVERAL.id)
    assert not (tmp_path / "out").exists()
    insisted = cf("render", "embedded", "-o", "out", "--several-apis")
    assert insisted.code == 0
    assert_named(insisted.err, apis.DRIFT)
    services = yaml.safe_load((tmp_path / "out" / "compose.yaml").read_text())["services"]
    assert services["compreface-api"]["deploy"] == {"replicas": 3}
    again = cf("render", "embedded", "-o", "out")
    assert again.code == 3


@pytest.mark.parametrize("wrong", ["0", "17", "two", "1.5"])
def test_a_number_that_is_none_is_refused(
    cf: Cf, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CF_API_REPLICAS", wrong)
    refused = cf("render", "embedded", "-o", "out", "--several-apis")
    assert refused.code == 3
    assert_named(refused.err, "CF_API_REPLICAS")


def test_status_names_several_apis() -> None:
    running = record(STACK)
    one = Status(running, STACK, health=None)  # type: ignore[arg-type]
    assert (one.apis, one.apis_words) == (1, "")
    several = replace(one, record=replace(running, plan={"api_replicas": 2}))
    assert several.apis == 2
    assert_named(several.apis_words, "2 ", apis.DRIFT, apis.SEVERAL.id)
