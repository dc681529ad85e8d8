"""What a rendered project has for its monitoring: scrape configuration, alert rules, dashboard."""

from __future__ import annotations

from collections.abc import Mapping

from compreface_cli import __version__, resources
from compreface_cli.plan.plan import Plan
from compreface_cli.project import alerts
from compreface_cli.project.rendered import Content, FileRef
from compreface_cli.project.targets.templating import jinja

FOLDER = "monitoring"
CORE = "compreface-core"
DASHBOARD = "grafana-dashboard.json"


def files(plan: Plan, target: str) -> dict[str, Content]:
    """The files of `monitoring/`; `target`: a key of `TARGETS`.

    The dashboard is the same for every instance, which is one of its variables.
    """
    templates = jinja()
    context = {
        "version": __version__,
        "target": target,
        "instance": plan.instance,
        "build": plan.build,
        "project": plan.project,
        "api_keys": bool(plan.api_keys),
    }
    contents: dict[str, Content] = {
        "prometheus.yml": templates.get_template("monitoring/prometheus.yml.j2").render(context),
        "alerts.yml": alerts.text(
            plan.instance, __version__, alerts.groups(plan, commands(plan, target))
        ),
        DASHBOARD: FileRef.of(resources.templates_dir() / "monitoring" / DASHBOARD),
    }
    if target == "compose":
        example = templates.get_template("monitoring/compose.prometheus.yaml.j2")
        contents["compose.prometheus.yaml"] = example.render(context)
    return {f"{FOLDER}/{name}": content for name, content in contents.items()}


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
    }
    return of[target]
