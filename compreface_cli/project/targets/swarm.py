"""Renders a plan as a stack of Docker Swarm; the same plan and version give equal bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compreface_cli.docker.labels import IMAGE
from compreface_cli.errors import ConfigurationError
from compreface_cli.plan.plan import KEYS_WAY_OUT, Plan
from compreface_cli.project import monitoring
from compreface_cli.project.rendered import Content, FileRef, RenderedProject
from compreface_cli.project.targets import engine_image
from compreface_cli.project.targets.compose import (
    DATABASE_CA,
    ROUTES_FILE,
    TLS_CERT,
    TLS_KEY,
    context_of,
    given,
    probe,
)
from compreface_cli.project.targets.templating import jinja

STACK_FILE, DEPLOY_FILE = "stack.yaml", "deploy.sh"
ENGINE_KEY = "ENGINE_KEY"  # in `.env`: the key of the engine's published port
_SERVICES = ("core", "postgres-db", "admin", "api", "fe")
_DIGITS = 12  # of a hash, in the name of a secret or config


def render(
    plan: Plan,
    models: Mapping[str, Path] | None = None,
    *,
    with_models: bool = True,
    revision: str | None = None,
) -> RenderedProject:
    """The stack of a plan; arguments and errors as those of the Compose target.

    Raises ConfigurationError for what Swarm cannot run as the plan has it.
    """
    refuse(plan)
    files = engine_image.files(plan, models, with_models=with_models, revision=revision)
    templates, context = jinja(), {**context_of(plan), **_of_swarm(plan)}
    templates.globals["probe"] = probe
    routes = templates.get_template("nginx.conf.j2").render(context)
    files[ROUTES_FILE] = routes
    context["config_files"] = [("ui-routes", ROUTES_FILE, _digest(routes))]
    context["secret_files"] = []
    if plan.tls_cert:
        files |= {TLS_CERT: given(plan.tls_cert), TLS_KEY: given(plan.tls_key)}
        context["config_files"].append(("tls-cert", TLS_CERT, _digest(files[TLS_CERT])))
        context["secret_files"].append(("tls-key", TLS_KEY, _digest(files[TLS_KEY])))
    if plan.database_root_cert:
        files[DATABASE_CA] = authority = given(plan.database_root_cert)
        context["database_ca"] = DATABASE_CA
        context["config_files"].append(("database-ca", DATABASE_CA, _digest(authority)))
    files |= monitoring.files(plan, "swarm")
    for file in (STACK_FILE, DEPLOY_FILE, "README.md"):
        files[file] = templates.get_template(f"swarm/{file}.j2").render(context)
    return RenderedProject(
        plan.instance,
        dict(sorted(files.items())),
        plan.secrets,
        plan.calculator,
        plan.data.volume if plan.data else "",
        generated=(ENGINE_KEY,),
    )


def refuse(plan: Plan) -> None:
    """Raise ConfigurationError, with the way out, for a plan that Swarm cannot run."""
    for fault, hint in faults(plan):
        raise ConfigurationError(fault, hint=hint)
    for name, port in (("port", plan.port), ("core_port", plan.core_port)):
        if port == "auto":
            raise ConfigurationError(
                f"{name} is auto, which only `cf up` can resolve", hint="give a number"
            )


def faults(plan: Plan) -> list[tuple[str, str]]:
    """What Swarm cannot run of the plan, each with the way out."""
    faults = []
    if fault := plan.keys_fault():
        faults.append((fault, KEYS_WAY_OUT))
    if plan.services == "core":
        faults.append(
            (
                "on Swarm the engines share one name behind the UI's nginx, so they cannot be "
                "rendered or started alone",
                "Leave --services core out, or start the engine alone by --launcher compose.",
            )
        )
    if plan.device == "cuda":
        faults.append(
            (
                "the build is for a GPU, and Swarm hands no device to a service",
                "Start it by --launcher compose, or on Kubernetes (cf render --target helm).",
            )
        )
    if plan.bind not in ("0.0.0.0", "::"):  # noqa: S104
        faults.append(
            (
                f"Swarm publishes a port at all addresses of its nodes, and bind is {plan.bind} "
                f"({plan.origins.get('bind', 'default')})",
                "Say that this is wanted: --bind 0.0.0.0. Where it is not, close the ports of the "
                "nodes by a firewall first.",
            )
        )
    return faults


def database_label(plan: Plan) -> str:
    """The label of the node that has the database's volume."""
    return f"{plan.project}.database"


def core_image(plan: Plan) -> str:
    """The engine's image by its name in the registry that the plan names, else its local one."""
    tag = plan.image.rpartition("/")[2].rpartition(":")[2]
    return f"{plan.push_to}/{IMAGE}:{tag}" if plan.push_to else plan.image


def in_registry(plan: Plan) -> bool:
    """Whether each node can pull the engine's image by its name."""
    return bool(plan.push_to) or plan.image_given


# Of each secret: its key in `.env`, which is also in the name of the variable for its whole name,
# and the form of its content.
PASSWORDS: Mapping[str, tuple[str, str]] = {
    "postgres-password": ("POSTGRES_PASSWORD", "%s"),
    "engine-key": (ENGINE_KEY, '"%s" 1;'),  # a line of nginx's `map`
    "email-password": ("EMAIL_PASSWORD", "%s"),
}


def secret(project: str, name: str, env: Mapping[str, str]) -> tuple[str, str]:
    """The whole name and the content of a secret; `env`: the values of `.env`.

    The name follows the content and, without the engine's key, says nothing of it. As deploy.sh.
    """
    key, form = PASSWORDS[name]
    content = form % env[key]
    sha = hashlib.sha256((env[ENGINE_KEY] + content).encode()).hexdigest()
    return f"{project}_{name}-{sha[:_DIGITS]}", content


def _passwords(plan: Plan) -> list[tuple[str, str, str]]:
    wanted = [name for name in PASSWORDS if name != "email-password" or _sends_mail(plan)]
    return [(name, *PASSWORDS[name]) for name in wanted]


def _sends_mail(plan: Plan) -> bool:
    return plan.stack["enable_email_server"] == "true"


def _of_swarm(plan: Plan) -> dict[str, Any]:
    services = [name for name in _SERVICES if name != "postgres-db" or plan.owns_database]
    return {
        "services": [f"swarm/{name}.yaml.j2" for name in services],
        "owns_database": plan.owns_database,
        "database_label": database_label(plan),
        "passwords": _passwords(plan),
        "email_password": _sends_mail(plan),
        "engine_key": "/run/secrets/engine-key",
        "core_image": core_image(plan),
        "in_registry": in_registry(plan),
        "is_built": not plan.image_alone and (bool(plan.push_to) or not plan.image_given),
        "replicas": plan.replicas,
        "publish": "host" if plan.publish == "auto" else plan.publish,
        "ui_published": plan.port,
        "engine_published": plan.core_port,
        "address_lines": _address_lines(plan),
    }


def _address_lines(plan: Plan) -> list[str]:
    ui = f"{'https' if plan.tls_cert else 'http'}://NODE:{plan.port}/login"
    return [
        f"The UI is at {ui}, NODE being any node. The first account to sign up is the owner.",
        f"The engine answers at http://NODE:{plan.core_port}/status with the key {ENGINE_KEY} of "
        "`.env` in `x-api-key`. Both ports are open at all addresses of the nodes.",
    ]


def _digest(content: Content) -> str:
    sha = content.sha256 if isinstance(content, FileRef) else None
    return (sha or hashlib.sha256(str(content).encode()).hexdigest())[:_DIGITS]
