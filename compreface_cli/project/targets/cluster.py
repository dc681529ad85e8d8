"""What both targets for Kubernetes share: the engine's image, TLS, secrets, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compreface_cli import __version__
from compreface_cli.errors import ConfigurationError
from compreface_cli.plan.plan import KEYS_WAY_OUT, Plan
from compreface_cli.project.rendered import Content, RenderedProject
from compreface_cli.project.targets import chart_values, engine_image
from compreface_cli.project.targets.compose import TLS_CERT, TLS_KEY, given
from compreface_cli.project.targets.templating import jinja

SECRETS = "secrets.yaml"  # of mode 0600, made of `.env`


def files(
    plan: Plan,
    models: Mapping[str, Path] | None = None,
    *,
    with_models: bool = True,
    revision: str | None = None,
) -> dict[str, Content]:
    """The files beside the manifests; raises ConfigurationError for what no cluster can have."""
    if fault := plan.keys_fault():
        raise ConfigurationError(fault, hint=KEYS_WAY_OUT)
    if plan.data is not None:
        raise ConfigurationError(
            f"the volume {plan.data.volume} is one of Docker, which a cluster cannot mount",
            hint="Leave --data out, and restore a dump into the new database (docs/kubernetes.md).",
        )
    content = engine_image.files(plan, models, with_models=with_models, revision=revision)
    if plan.tls_cert:
        content |= {TLS_CERT: given(plan.tls_cert), TLS_KEY: given(plan.tls_key)}
    return content


def readme(plan: Plan, *, chart: bool) -> str:
    """The page of the folder: how it is installed, and what each file is."""
    context = {
        "version": __version__,
        "project": plan.project,
        "instance": plan.instance,
        "build": plan.build,
        "image": chart_values.engine_image(plan),
        "image_alone": plan.image_alone,
        "keys": bool(plan.api_keys),
        "tls": bool(plan.tls_cert),
        "chart": chart,
    }
    return jinja().get_template("helm/README.md.j2").render(context)


def project(plan: Plan, content: Mapping[str, Content], secrets: str) -> RenderedProject:
    """The project with these files; `secrets`: the template of its file of secrets."""
    return RenderedProject(
        plan.instance,
        dict(sorted(content.items())),
        plan.secrets,
        plan.calculator if plan.services == "full" else "",
        secret_files={SECRETS: secrets},
        services=plan.services,
    )
