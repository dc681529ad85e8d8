"""Turns validation errors of a build file into faults: file, line, message, hint."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from compreface_cli.config.yamlfile import Document, Fault, did_you_mean


def _keys_at(location: Sequence[str | int], known: Mapping[str, type[BaseModel]]) -> list[str]:
    """The known keys of the mapping at that location."""
    model = known[""]
    for part in location:
        model = known.get(str(part), model)
    return [field.alias or name for name, field in model.model_fields.items()]


def fault(
    document: Document,
    error: ErrorDetails,
    models: Mapping[str, type[BaseModel]],
    words: Mapping[str, str],
) -> Fault:
    """A pydantic error as a fault of the file.

    `models`: the model of each key that holds a mapping, and under "" that of the whole file.
    `words`: each pattern in words.
    """
    data: Any = document.data
    location: list[str | int] = []
    for part in error["loc"]:  # pydantic adds names of union members, which are not keys
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            if error["type"] == "missing":
                location.append(part)
            break
        location.append(part)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "misfit":
        line, column = document.position(_present(document.data, [*location, *context["path"]]))
        before = ".".join(str(part) for part in location)
        reason = str(context["reason"])
        return Fault(document.origin, line, column, f"{before}.{reason}" if before else reason)
    line, column = document.position(location)
    name = ".".join(str(part) for part in location)
    hint = ""
    if kind == "extra_forbidden":
        known = _keys_at(location[:-1], models)
        message = f"unknown key {location[-1]!r}"
        hint = did_you_mean(str(location[-1]), known) or f"known here: {', '.join(known)}"
    elif kind == "missing":
        message = f"{name} is missing"
    elif kind == "literal_error":
        expected = str(context.get("expected", ""))
        message = f"{name}: {data!r} is not one of {expected}"
        hint = did_you_mean(str(data), re.findall(r"'([^']+)'", expected)) or ""
    elif kind == "list_type" and data is None:
        message = f"{name}: must be a list, not empty"
        hint = f"write {location[-1]}: [] for an empty one, or leave the key out"
    elif kind == "string_type":
        message = f"{name}: must be text, not {data!r}"
        hint = "put it in quotes"
    elif kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern", ""))
        message = f"{name}: {data!r} is not {words.get(pattern, f'of the form {pattern}')}"
    elif kind == "value_error":
        reason = str(context.get("error", error["msg"]))
        message = f"{name}: {reason}" if name else reason
    else:
        text = error["msg"].removeprefix("Input should be ")
        message = (
            f"{name}: must be {text}, not {data!r}" if text != error["msg"] else f"{name}: {text}"
        )
    return Fault(document.origin, line, column, message, hint)


def _present(data: Any, path: list[str | int]) -> list[str | int]:
    """The leading part of the path that exists in the file."""
    present: list[str | int] = []
    for part in path:
        value = data.get(part) if isinstance(data, dict) else None
        if isinstance(data, list) and isinstance(part, int):
            value = data[part]
        if value is None and not (isinstance(data, dict) and part in data):
            break
        present.append(part)
        data = value
    return present
