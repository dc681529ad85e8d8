"""The monitoring of a rendered project: what Prometheus and Grafana load, and its thresholds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from compreface_cli.project import alerts, monitoring
from compreface_cli.project.rendered import FileRef
from tests.cli.test_render import plan

TARGETS = ["compose", "swarm", "kubernetes"]
PROMTOOL = shutil.which("promtool")
KEY = "a" * 40
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def rendered(target: str = "compose", **flags: Any) -> dict[str, str]:
    """The files of `monitoring/` by their names."""
    return {
        path.removeprefix("monitoring/"): content.source.read_text("utf-8")
        if isinstance(content, FileRef)
        else content
        for path, content in monitoring.files(plan(**flags), target).items()
    }


def rules(**flags: Any) -> dict[str, dict[str, Any]]:
    """The alerts by their names."""
    document = yaml.safe_load(rendered(**flags)["alerts.yml"])
    return {rule["alert"]: rule for group in document["groups"] for rule in group["rules"]}


def written(folder: Path, target: str = "compose", **flags: Any) -> Path:
    for name, content in rendered(target, **flags).items():
        (folder / name).write_text(content, "utf-8")
    return folder


def promtool(*words: str | Path) -> str:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *map(str, words)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_promtool
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("services", ["full", "core"])
def test_prometheus_takes_configuration_and_rules(
    target: str, services: str, tmp_path: Path
) -> None:
    keys = {"api_keys": KEY} if services == "core" else {}
    folder = written(tmp_path, target, services=services, **keys)
    if target == "kubernetes":  # which Debian's Prometheus is built without
        document = yaml.safe_load((folder / "prometheus.yml").read_text("utf-8"))
        assert document["scrape_configs"][0].pop("kubernetes_sd_configs")
        (folder / "prometheus.yml").write_text(yaml.safe_dump(document), "utf-8")
    promtool("check", "config", "--syntax-only", folder / "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", folder / "alerts.yml")


@pytest.mark.parametrize("target", ["compose", "swarm"])
def test_the_engines_are_looked_up_by_their_name_and_labelled(target: str) -> None:
    document = yaml.safe_load(rendered(target, instance="second")["prometheus.yml"])
    (job,) = document["scrape_configs"]
    names = {"compose": "compreface-core", "swarm": "tasks.compreface-core"}
    assert job["dns_sd_configs"][0]["names"] == [names[target]]
    assert job["dns_sd_configs"][0]["port"] == 3000
    labels = {each["target_label"]: each["replacement"] for each in job["relabel_configs"]}
    assert labels == {"cf_instance": "second", "cf_build": "plain"}
    assert "authorization" not in job


def test_pods_are_selected_as_the_manifests_label_them() -> None:
    document = yaml.safe_load(rendered("kubernetes")["prometheus.yml"])
    (job,) = document["scrape_configs"]
    (discovery,) = job["kubernetes_sd_configs"]
    (selector,) = discovery["selectors"]
    assert selector["role"] == discovery["role"] == "pod"
    assert selector["label"].split(",") == [
        "app.kubernetes.io/name=compreface",
        "app.kubernetes.io/instance=cf-plain",
        "app.kubernetes.io/component=core",
    ]
    assert job["relabel_configs"][-2] == {"target_label": "cf_instance", "replacement": "plain"}


def test_an_api_key_is_read_from_a_file_and_stands_in_none_that_is_rendered() -> None:
    files = rendered(services="core", api_keys=KEY)
    (job,) = yaml.safe_load(files["prometheus.yml"])["scrape_configs"]
    example = yaml.safe_load(files["compose.prometheus.yaml"])
    (secret,) = example["services"]["prometheus"]["secrets"]
    assert job["authorization"] == {"credentials_file": f"/run/secrets/{secret}"}
    assert set(example["secrets"][secret]) == {"environment"}
    assert not any(KEY in content for content in files.values())
    assert "secrets" not in yaml.safe_load(rendered()["compose.prometheus.yaml"])


def test_the_thresholds_follow_the_plan() -> None:
    full, core = rules(replicas=3), rules(services="core")
    assert "CompreFaceApiBusy" in full
    assert "CompreFaceApiBusy" not in core, "nothing but the api limits what is sent"
    assert full["CompreFaceEngineGone"]["expr"].endswith("< 3")
    assert core["CompreFaceEngineGone"]["expr"].endswith("< 1")
    assert (alerts.slow_s(plan()), alerts.slow_s(plan(services="core"))) == (5, 1)
    assert alerts.slow_s(plan(max_wait_s=0.5)) == 0.25
    assert "> 5\n" in full["CompreFaceSlowAnswers"]["expr"]


def test_a_chart_puts_its_own_expressions_into_the_rules() -> None:
    commands = monitoring.commands(plan(), "compose")
    (group,) = alerts.groups(plan(), commands, instance="RELEASE", replicas="ENGINES")
    gone = next(rule for rule in group["rules"] if rule["alert"] == "CompreFaceEngineGone")
    assert gone["expr"] == '(sum(up{cf_instance="RELEASE"}) > 0) < ENGINES'
    assert gone["labels"]["cf_instance"] == "RELEASE"


def test_the_template_of_a_chart_has_the_same_rules() -> None:
    """Helm's own expressions are evaluated by hand; what is Prometheus' is escaped."""
    text = monitoring.chart(plan(replicas=3))
    text = text.replace("{{ .Release.Name }}", "faces").replace("{{ .Release.Namespace }}", "ns")
    engines = re.compile(r"\{\{ if \.Values\.engine\.autoscaling.*?\{\{ end \}\}")
    assert engines.search(text)
    text = engines.sub("3", text).replace("{{`{{`}}", "{{")
    rule = next(part for part in text.split("---\n") if "kind: PrometheusRule" in part)
    lines = [line for line in rule.splitlines() if not line.strip().startswith("{{-")]
    spec = yaml.safe_load("\n".join(lines))["spec"]
    plain = yaml.safe_load(rendered("kubernetes", replicas=3, instance="faces")["alerts.yml"])

    def expressions(groups: dict[str, Any]) -> dict[str, str]:
        return {each["alert"]: each["expr"] for each in groups["groups"][0]["rules"]}

    assert expressions(spec) == expressions(plain)
    summaries = [each["annotations"]["summary"] for each in spec["groups"][0]["rules"]]
    assert "faces: {{ $value }} of 3 engines answer" in summaries
    for key in monitoring.CHART_VALUES:
        assert f".Values.monitoring.{key}" in text


def test_each_alert_waits_and_says_what_to_do() -> None:
    for target in TARGETS:
        document = yaml.safe_load(rendered(target)["alerts.yml"])
        for rule in document["groups"][0]["rules"]:
            assert rule["for"] in ("1m", "2m"), "one scrape alone is no alert"
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert set(rule["annotations"]) == {"summary", "description", "runbook"}
            words = rule["annotations"]["description"]
            assert any(word in words for word in ("docker ", "kubectl ", "More engines"))


def test_the_dashboard_takes_data_source_and_instances_from_its_variables() -> None:
    dashboard = json.loads(rendered()[monitoring.DASHBOARD])
    assert [each["name"] for each in dashboard["templating"]["list"]] == [
        "datasource",
        "cf_instance",
        "instance",
    ]
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'cf_instance=~"$cf_instance"' in target["expr"]
