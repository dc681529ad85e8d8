"""What a rendered project has for its monitoring: scrape configuration, alert rules, dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compreface_cli import __version__, resources
from compreface_cli.plan.plan import Plan
from compreface_cli.project import alerts
from compreface_cli.project.rendered import Content, FileRef
from compreface_cli.project.targets.templating import jinja

FOLDER = "monitoring"
CORE = "compreface-core"
DASHBOARD = "grafana-dashboard.json"
# Under `monitoring` of a chart's values; `keySecret`: a Secret with one of the API keys.
CHART_VALUES: Mapping[str, Any] = {
    "enabled": False,
    "dashboard": False,
    "interval": "15s",
    "labels": {},
    "keySecret": {"name": "", "key": ""},
}
_ENGINES = (
    "{{ if .Values.engine.autoscaling.enabled }}{{ .Values.engine.autoscaling.minReplicas | int }}"
    "{{ else }}{{ .Values.engine.replicas | int }}{{ end }}"
)


def files(plan: Plan, target: str) -> dict[str, Content]:
    """The files of `monitoring/`; `target`: a key of `TARGETS`, but not `helm`."""
    templates = jinja()
    context = {
        "version": __version__,
        "target": target,
        "instance": plan.instance,
        "build": plan.build,
        "project": plan.project,
        "pods": _pods(plan.project),
        "api_keys": bool(plan.api_keys),
    }
    head = (
        f'# Alert rules for the instance "{plan.instance}", rendered by cf {__version__}.\n'
        f"# What each means, and what to do: {alerts.RUNBOOK}\n"
    )
    rules = alerts.text(alerts.groups(plan, commands(plan, target)))
    contents: dict[str, Content] = {
        "prometheus.yml": templates.get_template("monitoring/prometheus.yml.j2").render(context),
        "alerts.yml": head + rules,
        DASHBOARD: dashboard(),
    }
    if target == "compose":
        example = templates.get_template("monitoring/compose.prometheus.yaml.j2")
        contents["compose.prometheus.yaml"] = example.render(context)
    return {f"{FOLDER}/{name}": content for name, content in contents.items()}


def dashboard() -> FileRef:
    """The dashboard; it is the same for every instance, which is one of its variables."""
    return FileRef.of(resources.templates_dir() / "monitoring" / DASHBOARD)


def chart(plan: Plan) -> str:
    """A chart's template with ServiceMonitor, PrometheusRule and the dashboard's ConfigMap.

    It reads `CHART_VALUES` under `monitoring`, and the file `DASHBOARD` in the chart's folder.
    """
    # Names that stand in no rule otherwise; Helm's own braces come after Prometheus' are escaped.
    names = {
        "NAME-OF-RELEASE": "{{ .Release.Name }}",
        "NAMESPACE-OF-RELEASE": "{{ .Release.Namespace }}",
        "ENGINES-OF-RELEASE": _ENGINES,
    }
    release, namespace, engines = names
    of = _of_pods(release, f"-n {namespace}", f"-n {namespace}")
    rules = alerts.text(alerts.groups(plan, of, instance=release, replicas=engines))
    rules = rules.replace("{{", "{{`{{`}}")
    for name, expression in names.items():
        rules = rules.replace(name, expression)
    context = {"build": plan.build, "rules": rules}
    return jinja().get_template("monitoring/chart.yaml.j2").render(context)


def commands(plan: Plan, target: str) -> alerts.Commands:
    """The commands of an alert on that target."""
    project, service = plan.project, f"{plan.project}_{CORE}"
    more = "More engines: `cf up --replicas N` (docs/scaling.md)"
    of: Mapping[str, alerts.Commands] = {
        "compose": alerts.Commands(
            f"docker compose -p {project} ps -a {CORE}",
            f"docker compose -p {project} logs --tail 50 {CORE}",
            f"{more}, while the host has cores that idle.",
        ),
        "swarm": alerts.Commands(
            f"docker service ps --no-trunc {service}",
            f"docker service logs --tail 50 {service}",
            f"{more}, while the nodes have cores that idle.",
        ),
        "kubernetes": _of_pods(project, "-A", "-n NAMESPACE"),
    }
    return of[target]


def _of_pods(release: str, all_of: str, within: str) -> alerts.Commands:
    return alerts.Commands(
        f"kubectl get pods {all_of} -l {_pods(release)}",
        f"kubectl logs {within} -l {_pods(release)} --tail 50 (--previous: of the one that ended)",
        "More engines: `replicas` of the engine or its autoscaling (docs/scaling.md).",
    )


def _pods(release: str) -> str:
    """The labels of the engines' pods, as a selector."""
    of = {"name": "compreface", "instance": release, "component": "core"}
    return ",".join(f"app.kubernetes.io/{key}={value}" for key, value in of.items())
