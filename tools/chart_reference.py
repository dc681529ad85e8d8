"""The page of a chart's values, from the schema that the chart itself has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compreface_cli import resources
from compreface_cli.builds import builds
from compreface_cli.config import settings
from compreface_cli.plan import plan
from compreface_cli.project.targets import chart_schema, chart_values

_NOWHERE = Path("/nowhere")
_WORDS = {"pattern": "", "minimum": "from", "maximum": "to", "exclusiveMinimum": "above"}


def tables() -> Iterator[tuple[str, str, list[tuple[str, str, str, str]]]]:
    """For each group of values its name, what it is, and a row for each value in it.

    A row: the value's whole name, its type, its default in the chart of `embedded`, what it is.
    """
    chosen = settings.resolve({}, environ={}, project_file=_NOWHERE, user_file=_NOWHERE)
    of = plan.resolve(builds.load(resources.builds_dir() / "embedded.yaml"), chosen)
    schema = chart_schema.schema(chart_values.values(of))
    single: list[tuple[str, str, str, str]] = []
    for key, inner in schema["properties"].items():
        if key == "global":
            continue
        if "properties" in inner:
            yield key, inner["description"], list(_rows(key, inner))
        else:
            single.append(_row(key, inner))
    yield "", "", single


def _rows(path: str, of: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for key, inner in of["properties"].items():
        if "properties" in inner:
            yield from _rows(f"{path}.{key}", inner)
        else:
            yield _row(f"{path}.{key}", inner)


def _row(path: str, of: Mapping[str, Any]) -> tuple[str, str, str, str]:
    # the tag of the engine's image has a hash of all that is in it
    shown = "default" in of and path != "engine.image.tag"
    default = json.dumps(of["default"]) if shown else ""
    return path, _kind(of), default, of.get("description", "")


def _kind(of: Mapping[str, Any]) -> str:
    if "enum" in of:
        return ", ".join(of["enum"])
    limits = [f"{word} {of[key]}" for key, word in _WORDS.items() if word and key in of]
    return " ".join([{"object": "map", "array": "list"}.get(of["type"], of["type"]), *limits])
