"""Plugins by notation: finds the row of one in `plugins.json` and loads it.

A row has its `factory` (`module:function` of this package) and the `models` that the notation may
name: `[]` for none, `"any"` where one must be named and any prepared model will do, or the known
names, the default first. `cf` reads the same file: `built_in` says that the models are part of the
engine, `fits` names the catalogue's models that an `"any"` plugin can run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.models.prepared import Role
from compreface_engine.plugins.api import Analyzer, Calculator, Detector
from compreface_engine.plugins.context import Context, Notation, parse

TABLE: Final = Path(__file__).with_name("plugins.json")


@dataclass(frozen=True, slots=True)
class Row:
    """One plugin: its role, the models it may be named with (None: any), and its factory."""

    role: Role
    models: tuple[str, ...] | None
    factory: str

    def make(self, notation: Notation, context: Context) -> Any:
        """The plugin, loaded. Its module is imported here, so a start imports what it serves."""
        module, _, function = self.factory.partition(":")
        return getattr(import_module(f"{__package__}.{module}"), function)(notation, context)


def _read(table: Path) -> dict[str, Row]:
    roles: Mapping[Role, Mapping[str, Mapping[str, Any]]] = json.loads(table.read_bytes())
    return {
        plugin: Row(role, None if row["models"] == "any" else tuple(row["models"]), row["factory"])
        for role, rows in roles.items()
        for plugin, row in rows.items()
    }


PLUGINS: Final[Mapping[str, Row]] = _read(TABLE)


def detector(text: str, context: Context) -> Detector:
    """The detector of a notation, loaded. Raises ConfigurationError where that fails."""
    made: Detector = _make("detector", text, context)
    return made


def calculator(text: str, context: Context) -> Calculator:
    """The calculator of a notation, loaded. Raises ConfigurationError where that fails."""
    made: Calculator = _make("calculator", text, context)
    return made


def analyzer(text: str, context: Context) -> Analyzer:
    """The analyzer of a notation, loaded. Raises ConfigurationError where that fails."""
    made: Analyzer = _make("analyzer", text, context)
    return made


def _make(role: Role, text: str, context: Context) -> Any:
    notation = parse(text)
    row = PLUGINS.get(notation.plugin)
    if row is None or row.role != role:
        called = "extra plugin" if role == "analyzer" else role
        known = ", ".join(sorted(name for name, row in PLUGINS.items() if row.role == role))
        raise ConfigurationError(f"There is no {called} `{notation.text}`. Known are {known}.")
    if row.models is None:
        if not notation.model:
            raise ConfigurationError(
                f"{notation.text} names no model. Write {notation.plugin}@NAME, where NAME is a "
                "folder in CF_MODELS_DIR."
            )
    elif not notation.model:
        notation = replace(notation, model=row.models[0] if row.models else "")
    elif notation.model not in row.models:
        models = f"known are {', '.join(row.models)}" if row.models else "it takes none"
        raise ConfigurationError(f"{notation.plugin} has no model `{notation.model}`: {models}.")
    return row.make(notation, context)
