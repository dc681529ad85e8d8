"""The filters of the manifests' templates: each for Jinja2, and as a pipeline of a Go template."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any


def quoted(value: Any) -> str:
    """Text in double quotes, for YAML."""
    return json.dumps(str(value), ensure_ascii=False)


def environment(value: Any) -> str:
    """Text of an environment variable, in which Kubernetes replaces no `$(NAME)`."""
    return quoted(str(value).replace("$(", "$$("))


def plain(value: Any) -> str:
    """A number, a truth value or a word, in double quotes, as the engine reads it."""
    return quoted(json.dumps(value).strip('"'))


def whole(value: Any) -> int:
    return int(value)


def yaml(value: Any, indent: int) -> str:
    """A mapping or a list on lines of its own, indented."""
    from yaml import safe_dump

    text = safe_dump(value, default_flow_style=False, allow_unicode=True, width=10**6)
    return "\n" + textwrap.indent(text.rstrip("\n"), " " * indent)


def seconds(value: Any, more: int, default: int) -> int:
    """Whole seconds: the value rounded up, or `default` without one, and `more`."""
    return math.ceil(default if value is None else value) + more


def items(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(value.items())


def upper(value: str) -> str:
    return value.upper()


FILTERS: Mapping[str, tuple[Callable[..., Any], str]] = {
    "quoted": (quoted, "{0} | quote"),
    "environment": (environment, '{0} | replace "$(" "$$(" | quote'),
    "plain": (plain, '{0} | toJson | trimAll "\\"" | quote'),
    "whole": (whole, "{0} | int64"),
    "yaml": (yaml, "toYaml {0} | nindent {1}"),
    "seconds": (seconds, "{0} | default {2} | ceil | int64 | add {1}"),
    "replace": (str.replace, "{0} | replace {1} {2}"),
    "items": (items, "{0}"),
    "upper": (upper, "{0} | upper"),
}


def go(name: str, value: str, *arguments: Any) -> str:
    """The Go expression of a filter on the expression `value`."""
    operand = f"({value})" if name == "yaml" and " " in value else value
    return FILTERS[name][1].format(operand, *map(literal, arguments))


def literal(value: Any) -> str:
    """A constant of a Go template."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nil"
    return str(value) if isinstance(value, int | float) else quoted(value)
