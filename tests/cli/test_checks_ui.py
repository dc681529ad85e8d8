"""Whether the UI can display what a build returns: one finding, with the lines to add."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from compreface_cli import checks, resources
from compreface_cli.builds import builds
from compreface_cli.checks import ui
from compreface_cli.config.settings import Settings
from compreface_cli.facts import Facts
from compreface_cli.plan.plan import Plan, resolve
from compreface_cli.plugin_table import UI_PLUGINS
from tests.cli.fake_facts import docker, facts, plan
from tests.cli.names import assert_named


def ui_findings(of: Plan, seen: Facts | None = None) -> list[checks.Finding]:
    return [
        finding for finding in checks.preflight(of, seen or facts()) if finding.check == ui.NAME
    ]


BUNDLED = sorted(path.stem for path in resources.builds_dir().glob("*.yaml"))


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_build_returns_what_the_ui_reads(name: str) -> None:
    made = resolve(builds.load(resources.builds_dir() / f"{name}.yaml"), Settings())
    (finding,) = ui.judge(replace(made, services="full", launcher="compose"))
    assert finding.level == "ok"


@pytest.mark.parametrize(
    ("plugins", "lacks"),
    [
        (UI_PLUGINS[:2], "age and gender"),
        (UI_PLUGINS[:3], "gender"),
        (UI_PLUGINS[1:], "landmarks"),
        (UI_PLUGINS[2:], "landmarks and pose"),
        ((), "landmarks, pose, age and gender"),
        # The page asks by the key `landmarks`, which these 106 points do not have.
        (("insightface.Landmarks2d106Detector", *UI_PLUGINS[1:]), "landmarks"),
    ],
    ids=str,
)
def test_missing_plugins_are_one_warning_with_the_lines_to_add(
    plugins: tuple[str, ...], lacks: str
) -> None:
    (finding,) = ui_findings(plan(plugins=plugins, origins={"plugins": "build mine"}))
    assert finding.level == "warn"
    assert_named(finding.message, lacks)
    assert_named(finding.hint, "build mine")
    lines = [line for line in finding.hint.splitlines() if line.startswith("  - ")]
    given = yaml.safe_load("plugins:\n" + "\n".join(lines))["plugins"]
    assert [finding.level for finding in ui_findings(plan(plugins=(*plugins, *given)))] == ["ok"]


def test_a_plugin_of_any_network_counts() -> None:
    others = (
        "insightface.LandmarksDetector",
        "insightface.PoseEstimator",
        "dlib.AgeDetector@mine",
        "genderage.GenderDetector@other",
    )
    assert [finding.level for finding in ui_findings(plan(plugins=others))] == ["ok"]


@pytest.mark.parametrize(
    "changes", [{"services": "core"}, {"launcher": "process", "services": "core"}], ids=str
)
def test_an_engine_without_the_ui_gives_no_finding(changes: dict[str, Any]) -> None:
    assert ui_findings(plan(plugins=(), **changes)) == []
    assert list(ui.judge(plan(plugins=(), **changes))) == []
    assert list(ui.judge(plan(plugins=(), launcher="process"))) == []


def test_auto_is_judged_as_what_it_becomes() -> None:
    wanted = plan(plugins=(), launcher="auto")
    assert [finding.level for finding in ui_findings(wanted)] == ["warn"]
    away = facts(docker=docker(state="unreachable"))
    assert ui_findings(wanted, away) == []
    assert list(ui.check(wanted, away, checks.OwnedResources())) == []
    assert [finding.level for finding in ui.check(wanted, facts(), checks.OwnedResources())] == [
        "warn"
    ]
