"""Renders a plan as the files of a Compose project; the same plan and version give equal bytes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compreface_cli import __version__
from compreface_cli.config.settings_table import MAX_BODY_BYTES
from compreface_cli.docker.labels import (
    LABEL_BUILD,
    LABEL_CALCULATOR,
    LABEL_DATABASE,
    LABEL_INSTANCE,
    LABEL_ROUTES,
    LABEL_TLS,
)
from compreface_cli.errors import CfError, ConfigurationError
from compreface_cli.plan import jdbc
from compreface_cli.plan.plan import KEYS_WAY_OUT, REPLICAS_WAY_OUT, Plan
from compreface_cli.project import monitoring
from compreface_cli.project.rendered import FileRef, RenderedProject
from compreface_cli.project.targets import engine_image
from compreface_cli.project.targets.templating import jinja

ENV_FILE = ".env"
KEYS_FOLDER = "keys"  # of mode 0700; the container sees only the file
KEYS_FILE = f"{KEYS_FOLDER}/sha256"
COMPOSE_FILE = "compose.yaml"
ROUTES_FILE = "ui/nginx.conf.template"
TLS_FOLDER = "tls"
TLS_CERT, TLS_KEY = f"{TLS_FOLDER}/cert.pem", f"{TLS_FOLDER}/key.pem"
DATABASE_CA = "database/ca.pem"
PRIVATE = frozenset({TLS_KEY})  # files of mode 0600
# Routes that the UI's page polls at each load until each answers 200 with "status": "OK".
UI_ROUTES = ("/admin/status", "/api/v1/consistence/status", "/core/status")
_DNS_CACHE_TTL = "-Dsun.net.inetaddr.ttl"  # the JVM caches addresses for 30 s by default


def render(
    plan: Plan,
    models: Mapping[str, Path] | None = None,
    *,
    with_models: bool = True,
    revision: str | None = None,
) -> RenderedProject:
    """The project of a plan; `models` has the folder of each prepared model by name.

    `with_models=False` leaves the models out. Raises FetchError for a missing model, and
    ConfigurationError for a port that is still "auto".
    """
    for name, port in (("port", plan.port), ("core_port", plan.core_port)):
        if port == "auto":
            raise ConfigurationError(
                f"{name} is auto, which only `cf up` can resolve", hint="give a number"
            )
    if fault := plan.keys_fault():
        raise ConfigurationError(fault, hint=KEYS_WAY_OUT)
    if fault := plan.replicas_fault():
        raise ConfigurationError(f"replicas: {plan.replicas}: {fault}", hint=REPLICAS_WAY_OUT)
    files = engine_image.files(plan, models, with_models=with_models, revision=revision)
    templates, context = jinja(), context_of(plan)
    templates.globals["probe"] = probe
    if plan.tls_cert:
        tls = {TLS_CERT: given(plan.tls_cert), TLS_KEY: given(plan.tls_key)}
        files |= tls
        shas = "".join(each.sha256 for each in tls.values())
        context["tls_digest"] = hashlib.sha256(shas.encode()).hexdigest()[:16]
    if plan.database_root_cert:
        authority = given(plan.database_root_cert)
        files[DATABASE_CA] = authority
        context |= {"database_ca": DATABASE_CA, "database_ca_digest": authority.sha256[:16]}
    if plan.services == "full":
        routes = templates.get_template("nginx.conf.j2").render(context)
        files[ROUTES_FILE] = routes
        context["routes_digest"] = hashlib.sha256(routes.encode()).hexdigest()[:16]
    if plan.api_keys:
        files[KEYS_FILE] = key_digests(plan.api_keys)
    files[COMPOSE_FILE] = templates.get_template("compose.yaml.j2").render(context)
    files |= monitoring.files(plan, "compose")
    files["README.md"] = templates.get_template("README.md.j2").render(context)
    _check(plan, str(files[COMPOSE_FILE]))
    return RenderedProject(
        plan.instance,
        dict(sorted(files.items())),
        plan.secrets,
        plan.calculator if plan.services == "full" else "",
        plan.data.volume if plan.data else "",
        own_database=plan.owns_database or plan.services != "full",
    )


@dataclass(frozen=True, slots=True)
class Engines:
    """A service of engines: on the CPU or of one GPU."""

    service: str
    gpu: int
    count: int


def engines(plan: Plan) -> list[Engines]:
    """The services of the engines, the first of which is compreface-core.

    Each GPU has a service, since Compose gives all containers of one the same GPUs.
    """
    each = plan.replicas // len(plan.gpus)
    names = ["compreface-core", *(f"compreface-core-{n}" for n in range(2, len(plan.gpus) + 1))]
    return [Engines(name, gpu, each) for name, gpu in zip(names, plan.gpus, strict=True)]


def hash_of(path: str) -> str:
    """The SHA-256 of a file, "" where it cannot be read."""
    try:
        return FileRef.of(Path(path)).sha256
    except OSError:
        return ""


def given(path: str) -> FileRef:
    try:
        return FileRef.of(Path(path))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def key_digests(keys: str) -> str:
    """The file of key digests for the engine's container: a line `sha256:` and 64 hex digits each.

    It contains no key, so it may be readable for the container's user, which owns no file here.
    """
    digests = (hashlib.sha256(key.encode()).hexdigest() for key in keys.split(","))
    return "".join(f"sha256:{digest}\n" for digest in digests)


def probe(port: int, *paths: str) -> list[str]:
    """A health check that needs only bash, since not every image has curl.

    Each path must answer 200 without "NOT_READY"; the check prints the first path that does not.
    """
    script = (
        f"for path in {' '.join(paths)}; do answer=; "
        f"exec 3<>/dev/tcp/127.0.0.1/{port} && "
        "printf 'GET %s HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n' $path >&3 && "
        "answer=$(cat <&3) && [[ $answer == HTTP/1.?' 200'* && $answer != *NOT_READY* ]] || "
        "{ echo \"$path: ${answer%%$'\\r'*}\"; exit 1; }; "
        "done"
    )
    return ["CMD", "bash", "-c", script]


def context_of(plan: Plan) -> dict[str, Any]:
    """What the templates of every target need of the plan."""
    full = plan.services == "full"
    in_compose = plan.limits_environment()
    if plan.device == "cuda":
        in_compose["GPU_IDX"] = "0"
    database = ["postgres-db"] if plan.owns_database else []
    parts = ["core", *database, "admin", "api", "fe"] if full else ["core"]
    return {
        "version": __version__,
        "instance": plan.instance,
        "build": plan.build,
        "project": plan.project,
        "volume": plan.volume,
        "existing_data": plan.data is not None,
        "image": plan.image,
        "image_alone": plan.image_alone,
        "base_image": plan.base_image,
        "detector": plan.detector,
        "calculator": plan.calculator,
        "plugins": plan.plugins,
        "gpu_index": ", ".join(map(str, plan.gpus)),
        "engines": engines(plan),
        "stack": plan.stack,
        "cpus": "" if plan.cpus in ("auto", "none") else plan.cpus,
        "api_replicas": plan.api_replicas,
        "services": [f"partials/{name}.yaml.j2" for name in parts],
        "volumes": ["partials/volumes.yaml.j2"] if plan.owns_database else [],
        "devices": ["partials/gpu.yaml.j2"] if plan.device == "cuda" else [],
        "core_environment": sorted(in_compose.items()),
        "keys_file": KEYS_FILE if plan.api_keys else "",
        "ui_port": f"{_host(plan.bind)}:{plan.port}:{443 if plan.tls_cert else 80}",
        "tls": bool(plan.tls_cert),
        "tls_folder": TLS_FOLDER,
        "label_tls": LABEL_TLS,
        "engine_port": f"127.0.0.1:{plan.core_port}:3000",
        "core_port": "127.0.0.1::3000" if full else f"{_host(plan.bind)}:{plan.port}:3000",
        "behind_ui": full,
        "memory_limit": "" if plan.memory_limit == "none" else plan.memory_limit,
        "engine_grace": f"{math.ceil(float(plan.engine_limits.get('CF_DRAIN_S', 6)) + 10)}s",
        "max_body_bytes": plan.engine_limits.get("CF_MAX_BODY_BYTES", MAX_BODY_BYTES),
        "engine_key": "",
        "api_java_options": _api_java_options(plan.stack["api_java_options"]) if full else "",
        "ui_routes": UI_ROUTES,
        "kubernetes": False,
        "opened": plan.stack.get("open_routes") == "true",
        # the names that the entry point of the UI's image substitutes
        "largest_request": "${CLIENT_MAX_BODY_SIZE}",
        "read_timeout": "${PROXY_READ_TIMEOUT}",
        "connection_timeout": "${PROXY_CONNECT_TIMEOUT}",
        "jdbc": plan.jdbc,
        "own_database": plan.owns_database,
        "database_ca": "",
        "database_ca_target": jdbc.ROOT_CERT,
        "label_database": LABEL_DATABASE,
        "label_instance": LABEL_INSTANCE,
        "label_build": LABEL_BUILD,
        "label_calculator": LABEL_CALCULATOR,
        "label_routes": LABEL_ROUTES,
        "address_lines": _address_lines(plan),
        "model_lines": _model_lines(plan),
    }


def _api_java_options(options: str) -> str:
    return options if _DNS_CACHE_TTL in options else f"{options} {_DNS_CACHE_TTL}=0".strip()


def _host(bind: str) -> str:
    return f"[{bind}]" if ":" in bind else bind


def _address_lines(plan: Plan) -> list[str]:
    here = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(plan.bind, _host(plan.bind))  # noqa: S104
    if plan.services == "core":
        return [f"The engine answers at http://{here}:{plan.port}/status."]
    ui = f"{'https' if plan.tls_cert else 'http'}://{here}:{plan.port}/login"
    return [
        f"The UI is at {ui}. The first account to sign up is the owner.",
        f"The engine answers at http://127.0.0.1:{plan.core_port}/status, on this machine only.",
    ]


def _model_lines(plan: Plan) -> list[str]:
    return [
        f"Its model {model.name} is in `core/models/{model.name}/`; a folder rendered with "
        "--no-models lacks it until `cf render` runs again without that option."
        for model in plan.models
    ]


def _check(plan: Plan, text: str) -> None:
    """Parse the rendered Compose file; raises CfError if it does not match the plan."""
    import yaml

    try:
        document = yaml.safe_load(text)
        core = document["services"]["compreface-core"]
        matches = document["name"] == plan.project and core["image"] == plan.image
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise CfError(f"the rendered Compose file does not parse: {error}") from error
    if not matches:
        raise CfError("the rendered Compose file does not match the plan")
