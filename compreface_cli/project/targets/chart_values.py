"""The values of a plan's chart, which the plain manifests are made of too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compreface_cli.config.settings_table import BY_KEY, PASSED_ON
from compreface_cli.docker.push import NAME
from compreface_cli.errors import ConfigurationError
from compreface_cli.plan.plan import Plan
from compreface_cli.project import monitoring
from compreface_cli.project.targets.compose import given

# Keys of the stack's settings that the chart takes under `settings`; images and the database's
# address stand elsewhere in it.
SETTINGS = (
    "postgres_user",
    "postgres_db",
    "email_host",
    "email_username",
    "email_from",
    "enable_email_server",
    "save_images_to_db",
    "api_java_options",
    "admin_java_options",
    "open_routes",
    "max_file_size",
    "max_request_size",
    "connection_timeout",
    "read_timeout",
)
# The engine's settings, under `engine.settings`.
ENGINE_SETTINGS = ("max_detect_size", "max_concurrency", "max_wait_s", *PASSED_ON)
# Users that the images can run as: `nginx` of nginx' official image, `postgres` of PostgreSQL's,
# the engine's own; the Java images need none of theirs.
_UIDS = {"engine": 10001, "fe": 101, "database": 999, "admin": 1000, "api": 1000}
# Resident of the Java services at rest: 540 MB and 470 MB (their heaps may grow to -Xmx).
_JAVA = {"requests": {"cpu": "100m", "memory": "768Mi"}, "limits": {}}


def values(plan: Plan) -> dict[str, Any]:
    """All values of the chart for this plan; it holds no secret."""
    stack = plan.stack
    own = plan.owns_database or plan.services == "core"
    # An instance without the full stack has none of its images: the values stay the chart's.
    images = {
        short: _image(stack[f"{key}_image"])
        for short, key in (("admin", "admin"), ("api", "api"), ("fe", "fe"), ("db", "postgres"))
    }
    return {
        "services": plan.services,
        "settings": {
            "postgres_user": stack["postgres_user"],
            # a database elsewhere has its name in its address
            "postgres_db": stack["postgres_db"] if own else BY_KEY["postgres_db"].default,
            **{key: _typed(key, stack[key]) for key in SETTINGS[2:]},
        },
        "secrets": {
            "existingSecret": "",
            "postgres_password": "",
            "email_password": "",
            "api_keys": [],
        },
        "engine": {
            **_pod("engine", _image(engine_image(plan))),
            "replicas": plan.replicas,
            "calculator": plan.calculator,
            "settings": _engine_settings(plan),
            "apiKeys": bool(plan.api_keys),
            "startSeconds": 180,
            "progressDeadlineSeconds": 600,
            "resources": {
                "requests": {"cpu": "1", "memory": "512Mi"},
                "limits": {} if plan.memory_limit == "none" else {"memory": _memory(plan)},
            },
            "gpu": {
                "count": 1 if plan.device == "cuda" else 0,
                "resourceName": "nvidia.com/gpu",
                "runtimeClassName": "",
            },
            "service": {"type": "ClusterIP", "nodePort": 0},
            "autoscaling": {
                "enabled": False,
                "minReplicas": 1,
                "maxReplicas": max(4, plan.replicas),
                "cpuPercent": 70,
                "queueLength": 0,
                "queueMetric": "compreface_queue_length",
                "scaleDownSeconds": 300,
            },
        },
        "admin": {**_pod("admin", images["admin"]), "resources": _JAVA},
        "api": {
            **_pod("api", images["api"]),
            "replicas": plan.api_replicas,
            "allowSeveral": plan.allow_several_apis,
            "resources": _JAVA,
        },
        "fe": {
            **_pod("fe", images["fe"]),
            "replicas": 1,
            "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {}},
            "service": {"type": "ClusterIP", "port": 80, "nodePort": 0, "annotations": {}},
            "tls": {"secretName": f"{plan.project}-tls" if plan.tls_cert else ""},
        },
        "database": {
            **_pod("database", images["db"]),
            "enabled": own,
            "external": {
                "jdbc": "" if own else plan.jdbc,
                "rootCert": _root_cert(plan.database_root_cert),
            },
            "volume": {"size": "5Gi", "storageClassName": "", "existingClaim": ""},
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {}},
        },
        "drain": {"delaySeconds": 5},
        "networkPolicy": {
            "enabled": True,
            "prometheus": [
                {
                    "namespaceSelector": {
                        "matchLabels": {"kubernetes.io/metadata.name": "monitoring"}
                    }
                }
            ],
            "engineFrom": [],
            "databaseFrom": [],
        },
        "ingress": {
            "enabled": False,
            "className": "",
            "hosts": ["compreface.example.com"],
            "tlsSecretName": "",
            "annotations": {},
        },
        "gateway": {"enabled": False, "parentRefs": [], "hostnames": []},
        "monitoring": {**monitoring.CHART_VALUES},
        "imagePullSecrets": [],
        "commonLabels": {},
        "commonAnnotations": {},
    }


def _root_cert(path: str) -> str:
    """The text of the certificate; "" without one. Raises ConfigurationError if it is not text."""
    if not path:
        return ""
    try:
        return given(path).source.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no certificate in PEM: it is not text") from error


def _pod(name: str, image: Mapping[str, str]) -> dict[str, Any]:
    """What each kind of pod can be given."""
    return {
        "image": {**image, "pullPolicy": "IfNotPresent"},
        "uid": _UIDS[name],
        "extraEnv": {},
        "podLabels": {},
        "podAnnotations": {},
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
        "priorityClassName": "",
    }


def engine_image(plan: Plan) -> str:
    """The name that the nodes pull; `cf build --push` gives the image that name."""
    if not plan.push_to or plan.image_given:
        return plan.image
    return f"{plan.push_to}/{NAME}:{_image(plan.image)['tag']}"


def _image(name: str) -> dict[str, str]:
    """`registry:5000/folder/name:tag@sha256:...` in its parts."""
    rest, _, digest = name.partition("@")
    head, slash, last = rest.rpartition("/")
    last, _, tag = last.partition(":")
    return {"repository": f"{head}{slash}{last}", "tag": tag, "digest": digest}


def _engine_settings(plan: Plan) -> dict[str, Any]:
    given = {
        key: BY_KEY[key].parse(plan.engine_limits[BY_KEY[key].env])
        for key in PASSED_ON
        if BY_KEY[key].env in plan.engine_limits
    }
    return {
        "max_detect_size": plan.max_detect_size,
        **({"max_concurrency": plan.max_concurrency} if plan.max_concurrency else {}),
        "max_wait_s": _short(plan.max_wait_s),
        **{key: _value(value) for key, value in given.items()},
    }


def _typed(key: str, text: str) -> Any:
    return _value(BY_KEY[key].parse(text))


def _value(value: Any) -> Any:
    """A setting's value as YAML and JSON have it."""
    if value in ("true", "false"):
        return value == "true"
    return _short(value) if isinstance(value, float) else value


def _short(value: float) -> int | float:
    return int(value) if value == int(value) else value


def _memory(plan: Plan) -> str:
    """`2048m` of Compose as Kubernetes writes it."""
    return f"{plan.memory_limit.removesuffix('m')}Mi"
