"""What both targets for Kubernetes share: the engine's image, TLS, secrets, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compreface_cli.errors import ConfigurationError
from compreface_cli.plan.plan import KEYS_WAY_OUT, Plan
from compreface_cli.project.rendered import Content, FileRef, RenderedProject
from compreface_cli.project.targets import engine_image
from compreface_cli.project.targets.compose import TLS_CERT, TLS_KEY

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
        for path, source in ((TLS_CERT, plan.tls_cert), (TLS_KEY, plan.tls_key)):
            try:
                content[path] = FileRef.of(Path(source))
            except OSError as error:
                raise ConfigurationError(f"{source} cannot be read: {error.strerror}") from error
    return content


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
