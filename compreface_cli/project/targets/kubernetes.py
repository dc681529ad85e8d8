"""Renders a plan as plain manifests of Kubernetes; the same plan and version give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compreface_cli.plan.plan import Plan
from compreface_cli.project import monitoring
from compreface_cli.project.rendered import RenderedProject
from compreface_cli.project.targets import chart_values, cluster, manifests
from compreface_cli.project.targets.compose import TLS_CERT, TLS_KEY
from compreface_cli.project.targets.templating import jinja

FOLDER = "manifests"


def render(
    plan: Plan,
    models: Mapping[str, Path] | None = None,
    *,
    with_models: bool = True,
    revision: str | None = None,
) -> RenderedProject:
    """The project of a plan: `manifests/`, a kustomization of them, `core/` for the image.

    `secrets.yaml` is made when the project is written. Raises ConfigurationError for what no
    cluster can have, FetchError for a missing model.
    """
    files = cluster.files(plan, models, with_models=with_models, revision=revision)
    own = manifests.plain(chart_values.values(plan), plan.project)
    files |= {f"{FOLDER}/{name}": text for name, text in own.items()}
    files |= monitoring.files(plan, "kubernetes")
    context = {
        "manifests": [f"{FOLDER}/{name}" for name in own],
        "tls": {"cert": TLS_CERT, "key": TLS_KEY} if plan.tls_cert else None,
        "project": plan.project,
        "instance": plan.instance,
    }
    kustomization = jinja().get_template("helm/kustomization.yaml.j2")
    files["kustomization.yaml"] = kustomization.render(context)
    files["README.md"] = cluster.readme(plan, chart=False)
    return cluster.project(plan, files, "helm/secrets.yaml.j2")
