"""The charts' cases: a plan each, and values that are given beside its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from compreface_cli import resources
from compreface_cli.builds import builds
from compreface_cli.config import settings
from compreface_cli.plan import plan
from compreface_cli.plan.plan import Plan
from compreface_cli.project.targets import chart_values, manifests

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NOWHERE = Path("/nowhere")
RELEASE = "cf-embedded"


@dataclass(frozen=True, slots=True)
class Case:
    """Settings of the plan, and values given to its chart."""

    flags: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)
    build: str = "embedded"


_PASSWORD = {"secrets": {"postgres_password": "of-the-database"}}
CASES: Mapping[str, Case] = {
    "full": Case(),
    "core": Case({"services": "core", "push_to": "registry.example.com/faces"}),
    "keys": Case({"services": "core", "api_keys": "first-key-1,second-key-2"}),
    "external": Case(
        {"postgres_host": "db.example.com", "postgres_port": 5433, "postgres_db": "faces"},
        {**_PASSWORD, "database": {"external": {"rootCert": "-----BEGIN\nabc\n-----END\n"}}},
    ),
    "gpu": Case({"device": "cuda"}, {"engine": {"gpu": {"runtimeClassName": "nvidia"}}}),
    "autoscaled": Case(
        {"replicas": 2},
        {
            "engine": {
                "autoscaling": {
                    "enabled": True,
                    "minReplicas": 2,
                    "maxReplicas": 8,
                    "queueLength": 3,
                }
            }
        },
    ),
    "tls": Case({}, {"fe": {"tls": {"secretName": "ui-tls"}, "service": {"type": "LoadBalancer"}}}),
    "settings": Case(
        {
            "max_queue_bytes": 2**28 + 1,
            "max_wait_s": 2.5,
            "apply_exif": True,
            "batching": "on",
            "drain_s": 7.2,
            "max_queue": 0,
            "max_concurrency": 3,
            "memory_limit": "none",
            "open_routes": True,
            "email_from": "a $(POSTGRES_USER) 'b' \"c\" #d",
            "read_timeout": 86_400_000,
            "image": "registry.example.com:5000/faces/core:1@sha256:" + "a" * 64,
        }
    ),
    "placed": Case(
        {},
        {
            "engine": {
                "nodeSelector": {"disk": "fast"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "priorityClassName": "high",
                "extraEnv": {"OTEL_SERVICE_NAME": "$(A) b"},
                "podAnnotations": {"a": "b"},
                "podLabels": {"tier": "1"},
                "service": {"type": "NodePort", "nodePort": 30300},
            },
            "fe": {"service": {"type": "NodePort", "nodePort": 30800}},
            "imagePullSecrets": [{"name": "registry"}],
            "commonLabels": {"team": "faces"},
            "commonAnnotations": {"owner": "me"},
            "database": {"volume": {"storageClassName": "fast"}},
            "networkPolicy": {
                "engineFrom": [{"podSelector": {"matchLabels": {"app": "other"}}}],
                "databaseFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            },
        },
    ),
    "routed": Case(
        {},
        {
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "tlsSecretName": "faces-tls",
                "hosts": ["faces.example.com"],
            },
            "gateway": {
                "enabled": True,
                "parentRefs": [{"name": "front"}],
                "hostnames": ["faces.example.com"],
            },
        },
    ),
    "own": Case(
        {},
        {
            "secrets": {"existingSecret": "mine"},
            "database": {"volume": {"existingClaim": "kept"}},
            "networkPolicy": {"enabled": False},
        },
    ),
}


def planned(case: Case) -> Plan:
    chosen = settings.resolve(case.flags, environ={}, project_file=NOWHERE, user_file=NOWHERE)
    return plan.resolve(builds.load(resources.builds_dir() / f"{case.build}.yaml"), chosen)


def merged(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges values: mappings by key, all else replaced."""
    result = copy.deepcopy(dict(values))
    for key, value in given.items():
        old = result.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        result[key] = merged(old, value) if both else value  # type: ignore[arg-type]
    return result


def plain(name: str) -> list[dict[str, Any]]:
    """The objects of the plain manifests of this case."""
    return [each for text in _texts(name) for each in yaml.load_all(text, _Loader)]


@cache
def _texts(name: str) -> tuple[str, ...]:
    case = CASES[name]
    values = merged(chart_values.values(planned(case)), case.given)
    return tuple(manifests.plain(values, RELEASE).values())
