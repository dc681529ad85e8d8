"""The manifests of a plan, from `templates/helm/`: evaluated, or as templates of a Helm chart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compreface_cli import __version__
from compreface_cli.project.targets import go_filters, go_template
from compreface_cli.project.targets.compose import probe
from compreface_cli.project.targets.templating import jinja

if TYPE_CHECKING:
    from jinja2 import Environment

# The templates, each a file of manifests; the name without `.j2` is the file's.
FILES = (
    "core.yaml",
    "admin.yaml",
    "api.yaml",
    "fe.yaml",
    "fe-nginx.yaml",
    "postgres-db.yaml",
    "database-ca.yaml",
    "networkpolicies.yaml",
    "ingress.yaml",
)


def plain(values: Mapping[str, Any], release: str) -> dict[str, str]:
    """The manifests by their file's name; a file without an object is left out."""
    environment = _environment()
    known = {**_static("cf"), "release": release}
    context = {**values, **known, "engine": _with_all_settings(values["engine"])}

    def text(name: str) -> str:
        template = environment.get_template(f"helm/{name}.j2")
        return _tidy(template.render(context, checksum=checksum))

    def checksum(name: str) -> str:
        return hashlib.sha256(text(name).encode()).hexdigest()

    return {name: content for name in FILES if (content := text(name))}


def chart(values: Mapping[str, Any]) -> dict[str, str]:
    """The same files as templates of a chart with these values."""
    environment = _environment()
    static = _static("Helm")
    return {
        name: go_template.translate(environment, f"helm/{name}.j2", list(values), static)
        for name in FILES
    }


def _environment() -> Environment:
    environment = jinja()
    environment.filters |= {name: each for name, (each, _) in go_filters.FILTERS.items()}
    return environment


def _static(manager: str) -> dict[str, Any]:
    """What is known when either is written."""
    return {
        "kubernetes": True,
        "manager": manager,
        "appVersion": __version__,
        "admin_probe": _inline(probe(8080, "/admin/status")),
        "api_probe": _inline(probe(8080, "/api/v1/consistence/status")),
    }


def _inline(health_check: list[str]) -> str:
    """Compose's health check as a command of a probe; Kubernetes expands only `$(NAME)`."""
    return "[" + ", ".join(map(go_filters.environment, health_check[1:])) + "]"


def _with_all_settings(engine: Mapping[str, Any]) -> dict[str, Any]:
    return {**engine, "settings": {"drain_s": None, **engine["settings"]}}


def _tidy(text: str) -> str:
    """Without the lines of blanks that an empty part leaves, and documents without content."""
    lines = re.sub(r"(?m)^[ \t]+\n", "", text).rstrip("\n")
    parts = [part.strip("\n") for part in re.split(r"(?m)^---\n", lines)]
    return "".join(
        f"{'---' if number else ''}{chr(10) if number else ''}{part}\n"
        for number, part in enumerate(each for each in parts if each)
    )
