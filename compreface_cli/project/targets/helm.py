"""Renders a plan as a Helm chart; the same plan and version give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compreface_cli import __version__, resources
from compreface_cli.plan.plan import Plan
from compreface_cli.project import monitoring
from compreface_cli.project.rendered import Content, RenderedProject
from compreface_cli.project.targets import (
    chart_schema,
    chart_text,
    chart_values,
    cluster,
    manifests,
)

CHART = "chart"
_AS_THEY_ARE = "helm/chart"  # files of the chart that are Helm's alone


def render(
    plan: Plan,
    models: Mapping[str, Path] | None = None,
    *,
    with_models: bool = True,
    revision: str | None = None,
) -> RenderedProject:
    """The project of a plan: `chart/`, `core/` for the image, and `secrets.yaml` once written.

    Raises ConfigurationError for what no cluster can have, FetchError for a missing model.
    """
    files = cluster.files(plan, models, with_models=with_models, revision=revision)
    values = chart_values.values(plan)
    files |= {f"{CHART}/{path}": content for path, content in _chart(plan, values).items()}
    files["README.md"] = cluster.readme(plan, chart=True)
    return cluster.project(plan, files, "helm/values-secrets.yaml.j2")


def _chart(plan: Plan, values: Mapping[str, Any]) -> dict[str, Content]:
    templates = manifests.chart(values)
    folder = resources.templates_dir() / _AS_THEY_ARE
    own = {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {
        **own,
        **{f"templates/{name}": text for name, text in templates.items()},
        "Chart.yaml": _head(plan),
        "values.yaml": _values(plan, values),
        "values.schema.json": json.dumps(chart_schema.schema(values), indent=1) + "\n",
        # the operator's objects come as a template of Helm's already
        "templates/monitoring.yaml": monitoring.chart(plan),
        monitoring.DASHBOARD: monitoring.dashboard(),
    }


def _head(plan: Plan) -> str:
    document = {
        "apiVersion": "v2",
        "name": "compreface",
        "description": f"CompreFace with the engine of the build {plan.build}",
        "type": "application",
        "version": __version__,
        "appVersion": __version__,
        "kubeVersion": ">=1.25.0-0",
        "keywords": ["face-recognition", "compreface"],
    }
    return _dump(document)


def _values(plan: Plan, values: Mapping[str, Any]) -> str:
    head = (
        f'# Values of the instance "{plan.instance}" of the build "{plan.build}", '
        f"rendered by cf {__version__}.\n"
        "# cf overwrites this file; put your own in another one and give both: -f mine.yaml\n"
    )
    return head + chart_text.values_text(values, chart_schema.schema(values))


def _dump(document: Mapping[str, Any]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    return yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10**6)
