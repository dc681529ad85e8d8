"""The chart under Helm's own library, and all manifests under the schemas of each release.

`make kubernetes-schemas` sets up the Python that has both, and names it in CF_KUBERNETES_PYTHON.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from typing import Any

import pytest
import yaml

from compreface_cli.project import writer
from compreface_cli.project.targets import chart_schema, chart_values, helm, manifests
from tests.chart import rules
from tests.chart.cases import CASES, RELEASE, plain, planned
from tests.shared import ROOT

PYTHON = os.environ.get("CF_KUBERNETES_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="needs CF_KUBERNETES_PYTHON (make kubernetes-schemas)"),
]
# Kinds of the Gateway API and of the Prometheus operator, whose schemas Kubernetes lacks.
FOREIGN = ("HTTPRoute", "ServiceMonitor", "PrometheusRule")
HELMS_OWN = ("Secret", "Pod")  # of the chart alone: its secrets, and the pod of `helm test`


def run(module: str, asked: Any) -> Any:
    done = subprocess.run(
        [PYTHON, "-m", module],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=600,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def charts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folder of each case's chart."""
    root = tmp_path_factory.mktemp("charts")
    for name, case in CASES.items():
        writer.write(helm.render(planned(case), with_models=False), root / name)
    return {name: str(root / name / "chart") for name in CASES}


@pytest.fixture(scope="module")
def rendered(charts: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What Helm makes of each case."""
    asked = [
        {
            "chart": charts[name],
            "release": RELEASE,
            "cases": [{**case.given, **secret_values(name)}],
        }
        for name, case in CASES.items()
    ]
    answers = run("tests.chart.with_helm", asked)
    return {name: each["cases"][0] for name, each in zip(CASES, answers, strict=True)}


def with_helm(
    charts: dict[str, str], *given: dict[str, Any], release: str = RELEASE
) -> list[dict[str, Any]]:
    """What Helm makes of the full stack's chart with each of these values."""
    asked = [{"chart": charts["full"], "release": release, "cases": given}]
    answers: list[dict[str, Any]] = run("tests.chart.with_helm", asked)[0]["cases"]
    return answers


def objects(answer: dict[str, Any]) -> list[dict[str, Any]]:
    assert "files" in answer, answer
    texts = [text for path, text in answer["files"].items() if not path.endswith("NOTES.txt")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def comparable(each: dict[str, Any]) -> dict[str, Any]:
    """Without what must differ: who manages it, blank lines of a text, the digest of that text."""
    each = copy.deepcopy(each)
    each["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "-"
    for key, text in each.get("data", {}).items():
        each["data"][key] = re.sub(r"\n\s*\n", "\n", text)
    annotations = each.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations")
    if annotations and "checksum/nginx" in annotations:
        annotations["checksum/nginx"] = "-"
    return each


def by_name(all_of: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(each["kind"], each["metadata"]["name"]): comparable(each) for each in all_of}


def secret_values(case: str) -> dict[str, Any]:
    keys = planned(CASES[case]).api_keys.split(",")
    return {"secrets": {"api_keys": keys}} if keys != [""] else {}


@pytest.mark.parametrize("case", CASES)
def test_the_chart_gives_the_plain_manifests(
    case: str, rendered: dict[str, dict[str, Any]]
) -> None:
    of_helm = objects(rendered[case])
    fitting = [each for each in of_helm if each["kind"] != "Pod"]
    assert rules.faults(fitting, ("mine", "kept", "ui-tls")) == []
    shared = [each for each in of_helm if each["kind"] not in HELMS_OWN]
    assert by_name(shared) == by_name(plain(case))


def test_every_release_accepts_every_manifest(charts: dict[str, str]) -> None:
    wanted = {
        f"{case} {each['kind']} {each['metadata']['name']}": each
        for case in CASES
        for each in plain(case)
        if each["kind"] not in FOREIGN
    }
    (answer,) = with_helm(charts, {"monitoring": {"enabled": True, "dashboard": True}})
    wanted |= {
        f"chart {each['kind']} {each['metadata']['name']}": each
        for each in objects(answer)
        if each["kind"] not in FOREIGN
    }
    wanted["broken"] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "x"},
        "spec": {"prots": []},
    }
    answer = run("tests.chart.with_schemas", {"objects": wanted})
    assert len(answer["releases"]) == 13
    faults = [fault for fault in answer["faults"] if fault[1] != "broken"]
    assert faults == []
    assert {fault[0] for fault in answer["faults"]} == set(answer["releases"])


def leaves(of: dict[str, Any], *path: str) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    if "properties" not in of:
        return [(path, of)]
    return [leaf for key, inner in of["properties"].items() for leaf in leaves(inner, *path, key)]


def bad(of: dict[str, Any]) -> list[Any]:
    """Values that the schema of one value must refuse."""
    match of["type"]:
        case "boolean":
            return ["yes"]
        case "integer":
            return ["a", of["minimum"] - 1, of["maximum"] + 1, 1.5]
        case "number":
            return ["a", 0, of["maximum"] + 1]
        case "string":
            return [1, "\n"] if "pattern" in of or "enum" in of else [1]
        case "array":
            return ["a", [1]]
        case "object":
            return ["a"]
    return []


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    result: dict[str, Any] = value
    return result


def test_each_bad_value_is_refused_by_its_name(charts: dict[str, str]) -> None:
    values = chart_values.values(planned(CASES["full"]))
    schema = chart_schema.schema(values)
    tried = [
        (path, value) for path, of in leaves(schema) if path != ("global",) for value in bad(of)
    ]
    tried += [(("engine", "replica"), 1), (("engine", "settings", "max_wait"), 1), (("x",), 1)]
    answers = with_helm(charts, *(nested(path, value) for path, value in tried))
    assert len(tried) > 200
    for (path, value), answer in zip(tried, answers, strict=True):
        assert "error" in answer, (path, value)
        assert path[-1] in answer["error"], (path, value, answer)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"api": {"replicas": 2}}, "api.replicas"),
        ({"database": {"enabled": False}}, "database.external.jdbc"),
        (
            {"database": {"enabled": False, "external": {"jdbc": "jdbc:postgresql://x:1/y"}}},
            "secrets.postgres_password",
        ),
        ({"engine": {"apiKeys": True}}, "secrets.api_keys"),
        (
            {"engine": {"autoscaling": {"enabled": True, "minReplicas": 9}}},
            "engine.autoscaling.minReplicas",
        ),
    ],
)
def test_what_no_single_value_shows_is_refused_by_its_name(
    given: dict[str, Any], named: str, charts: dict[str, str]
) -> None:
    (answer,) = with_helm(charts, given)
    assert named in answer["error"]


def test_the_chart_has_no_fault_that_helm_sees(charts: dict[str, str]) -> None:
    asked = [{"chart": charts["full"], "release": "a" * 49, "cases": [{}]}]
    (answer,) = run("tests.chart.with_helm", asked)
    assert [each for each in answer["lint"]["messages"] if each["severity"] > 1] == []
    assert "48" in answer["cases"][0]["error"]


def test_a_pods_configuration_changes_with_its_digest(charts: dict[str, str]) -> None:
    given: tuple[dict[str, Any], ...] = (
        {},
        {"engine": {"replicas": 2}},
        {"settings": {"open_routes": True}},
    )
    digests = []
    for answer in with_helm(charts, *given):
        fe = by_name_of(objects(answer), "Deployment", f"{RELEASE}-fe")
        annotations = fe["spec"]["template"]["metadata"]["annotations"]
        digests.append(annotations["checksum/nginx"])
    assert digests[0] == digests[1] != digests[2]


def by_name_of(all_of: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (wanted,) = (e for e in all_of if (e["kind"], e["metadata"]["name"]) == (kind, name))
    return wanted


def test_the_templates_are_those_of_the_manifests() -> None:
    values = chart_values.values(planned(CASES["full"]))
    assert set(manifests.chart(values)) == set(manifests.FILES)
