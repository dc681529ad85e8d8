"""The plain manifests: parts that fit each other, restricted pods, and the plan's own values."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from compreface_cli.project.rendered import RenderedProject
from compreface_cli.project.targets import helm, kubernetes
from tests.chart import rules
from tests.chart.cases import CASES, RELEASE, plain, planned

OUTSIDE = (f"{RELEASE}-secrets", "mine", "kept", "ui-tls")


def of(case: str, kind: str, name: str) -> dict[str, Any]:
    (wanted,) = (
        each
        for each in plain(case)
        if (each["kind"], each["metadata"]["name"]) == (kind, f"{RELEASE}-{name}")
    )
    return wanted


def engine(case: str) -> dict[str, Any]:
    container: dict[str, Any] = of(case, "Deployment", "core")["spec"]["template"]["spec"][
        "containers"
    ][0]
    return container


def variables(case: str) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in engine(case)["env"]}


@pytest.mark.parametrize("case", CASES)
def test_the_parts_fit_each_other(case: str) -> None:
    assert rules.faults(plain(case), OUTSIDE) == []


def broken(path: str, value: Any, kind: str = "Deployment", name: str = "core") -> list[str]:
    """The faults of the full stack with one value changed."""
    objects = plain("autoscaled")
    (each,) = (
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == (kind, f"{RELEASE}-{name}")
    )
    *way, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    place: Any = each
    for part in way:
        place = place[part]
    place[last] = value
    return rules.faults(objects, OUTSIDE)


POD = "spec/template/spec"
CORE = f"{POD}/containers/0"


@pytest.mark.parametrize(
    ("path", "value", "kind", "name"),
    [
        ("metadata/name", "Compre_Face", "Deployment", "core"),
        ("metadata/labels/a", "not a label", "Deployment", "core"),
        ("spec/selector/matchLabels", {"a": "b"}, "Deployment", "core"),
        ("spec/replicas", 3, "Deployment", "core"),
        (f"{POD}/enableServiceLinks", True, "Deployment", "core"),
        (f"{POD}/securityContext", {}, "Deployment", "core"),
        (f"{POD}/volumes", [], "Deployment", "core"),
        (f"{POD}/terminationGracePeriodSeconds", 3, "Deployment", "core"),
        (f"{CORE}/securityContext", {}, "Deployment", "core"),
        (f"{CORE}/ports/0/containerPort", 80, "Deployment", "core"),
        (f"{CORE}/ports/0/name", "other", "Deployment", "core"),
        (f"{CORE}/readinessProbe/httpGet/port", "htpp", "Deployment", "core"),
        (f"{CORE}/startupProbe", None, "Deployment", "api"),
        (f"{CORE}/resources/limits/memory", "2Gx", "Deployment", "core"),
        (f"{CORE}/resources/limits/memory", "1Mi", "Deployment", "core"),
        (f"{CORE}/resources/requests", {}, "Deployment", "core"),
        (f"{CORE}/env/0/value", 640, "Deployment", "core"),
        (f"{CORE}/env/2/valueFrom/secretKeyRef/name", "other", "Deployment", "api"),
        (f"{POD}/volumes/0/configMap/name", "other", "Deployment", "fe"),
        ("spec/selector", {"a": "b"}, "Service", "core"),
        ("spec/ports/0/port", 300000, "Service", "core"),
        ("spec/ports/0/nodePort", 80, "Service", "core"),
        ("spec/ports/0/targetPort", "htpp", "Service", "core"),
        ("spec/maxUnavailable", 0, "PodDisruptionBudget", "core"),
        ("spec/podSelector/matchLabels", {"a": "b"}, "NetworkPolicy", "db"),
        (
            "spec/ingress/0/from/0/podSelector/matchLabels",
            {"app.kubernetes.io/name": "compreface", "app.kubernetes.io/component": "apy"},
            "NetworkPolicy",
            "db",
        ),
        ("spec/minReplicas", 9, "HorizontalPodAutoscaler", "core"),
        ("spec/scaleTargetRef/name", "other", "HorizontalPodAutoscaler", "core"),
    ],
)
def test_each_rule_sees_its_fault(path: str, value: Any, kind: str, name: str) -> None:
    if value is None:
        objects = plain("full")
        (each,) = (o for o in objects if (o["kind"], o["metadata"]["name"][12:]) == (kind, name))
        del each["spec"]["template"]["spec"]["containers"][0]["startupProbe"]
        assert rules.faults(objects, OUTSIDE)
        return
    assert broken(path, value, kind, name)


def test_the_engine_gets_the_plans_settings_as_it_reads_them() -> None:
    own = variables("settings")
    assert own == {
        "IMG_LENGTH_LIMIT": "640",
        "CF_APPLY_EXIF": "true",
        "CF_BATCHING": "on",
        "CF_DRAIN_S": "7.2",
        "CF_MAX_CONCURRENCY": "3",
        "CF_MAX_QUEUE": "0",
        "CF_MAX_QUEUE_BYTES": "268435457",
        "CF_MAX_WAIT_S": "2.5",
        "CF_RETRY_AFTER": "false",
    }
    pod = of("settings", "Deployment", "core")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 8 + 5 + 10
    assert engine("settings")["image"] == CASES["settings"].flags["image"]
    assert "limits" not in engine("settings")["resources"]


def test_kubernetes_replaces_nothing_in_a_value() -> None:
    pod = of("settings", "Deployment", "admin")["spec"]["template"]["spec"]
    values = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert values["EMAIL_FROM"] == "a $$(POSTGRES_USER) 'b' \"c\" #d"


def test_a_gpu_is_asked_for_by_the_device_plugins_name() -> None:
    assert engine("gpu")["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert variables("gpu")["GPU_IDX"] == "0"
    assert "nvidia.com/gpu" not in engine("full")["resources"]["limits"]


def test_the_nodes_pull_from_the_registry_that_the_image_is_pushed_to() -> None:
    assert engine("full")["image"].startswith("compreface-core:embedded-")
    assert engine("core")["image"] == f"registry.example.com/faces/{engine('full')['image']}"


def test_an_external_database_has_no_volume_here() -> None:
    kinds = {each["kind"] for each in plain("external")}
    assert "StatefulSet" not in kinds
    pod = of("external", "Deployment", "api")["spec"]["template"]["spec"]
    values = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    assert values["POSTGRES_URL"] == planned(CASES["external"]).jdbc


def test_only_the_two_java_services_reach_the_database() -> None:
    (rule,) = of("full", "NetworkPolicy", "db")["spec"]["ingress"]
    components = [
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]
    ]
    assert components == ["api", "admin"]


@pytest.mark.parametrize("target", [helm, kubernetes])
def test_the_same_plan_gives_the_same_bytes(target: Any) -> None:
    def project() -> RenderedProject:
        rendered: RenderedProject = target.render(
            planned(CASES["full"]), with_models=False, revision="0" * 40
        )
        return rendered

    assert project() == project()
    assert project().digest() == project().digest()


def test_the_kustomization_names_every_file() -> None:
    files = kubernetes.render(planned(CASES["full"]), with_models=False).files
    document = yaml.safe_load(str(files["kustomization.yaml"]))
    own = [path for path in files if path.startswith("manifests/")]
    assert sorted(document["resources"]) == sorted([*own, "secrets.yaml"])
