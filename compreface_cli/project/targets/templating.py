"""The templates' environment, and how values are quoted in the files that it writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compreface_cli import resources

if TYPE_CHECKING:
    from jinja2 import Environment


def jinja() -> Environment:
    """The environment of all templates, with a filter for each kind of file they write."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # The output is YAML and a Dockerfile, quoted by the filters; HTML escapes would break it.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(resources.templates_dir()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        newline_sequence="\n",
    )
    environment.filters |= {"q": quoted, "env": env_quoted, "docker": docker_quoted}
    return environment


def quoted(value: str | Sequence[str]) -> str:
    """A YAML value that Compose takes literally: quoted, each dollar sign doubled."""
    return json.dumps(value, ensure_ascii=False).replace("$", "$$")


def docker_quoted(value: str) -> str:
    """A value of ENV or LABEL, quoted for a Dockerfile."""
    return json.dumps(value, ensure_ascii=False).replace("$", "\\$")


def env_quoted(value: str) -> str:
    """A value of an `.env` file, quoted for Compose."""
    if not {"'", "\\"} & set(value):  # within single quotes Compose would read \' as a quote
        return f"'{value}'"
    for character, escape in (("\\", "\\\\"), ('"', '\\"'), ("$", "\\$")):
        value = value.replace(character, escape)
    return f'"{value}"'


def env_text(instance: str, secrets: Mapping[str, str]) -> str:
    """The `.env` file with these values."""
    context = {"instance": instance, "secrets": list(secrets.items())}
    return jinja().get_template("env.j2").render(context)


def secret_text(template: str, instance: str, services: str, secrets: Mapping[str, str]) -> str:
    """A file of secrets for another program than Compose, made of the values of `.env`."""
    import hashlib

    keys = [key for key in secrets.get("CF_API_KEYS", "").split(",") if key]
    digests = "".join(f"sha256:{hashlib.sha256(key.encode()).hexdigest()}\n" for key in keys)
    context = {
        "project": f"cf-{instance}",
        "services": services,
        "secrets": {"CF_API_KEYS": "", **secrets},
        "keys": keys,
        "digests": digests,
    }
    environment = jinja()
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.get_template(template).render(context)
