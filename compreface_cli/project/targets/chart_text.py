"""Writes a chart's `values.yaml`: each value with what it is, those that are unset as comments."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

_WIDTH = 100


def values_text(values: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The YAML of the values, in the schema's order, which has a description of each."""
    return "\n".join(_lines(values, schema["properties"], 0)).lstrip("\n") + "\n"


def _lines(values: Mapping[str, Any], properties: Mapping[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, inner in properties.items():
        if depth == 0 and key in values:
            yield ""
        comment = inner.get("description", "")
        for line in textwrap.wrap(comment, _WIDTH - len(indent) - 2) if key in values else ():
            yield f"{indent}# {line}"
        if key not in values:
            if depth:
                yield f"{indent}# {key}: {comment}"
        elif "properties" in inner:
            yield f"{indent}{key}:"
            yield from _lines(values[key], inner["properties"], depth + 1)
        else:
            yield f"{indent}{key}: {json.dumps(values[key], ensure_ascii=False)}"
