"""What is known about the catalogue's models: origin, terms, border (`builds` has the rest)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import isclose
from pathlib import Path
from typing import Any

from compreface_cli import plugin_table
from compreface_cli.models.entry import Border

PATH = Path(__file__).with_name("catalogue.yaml")


@dataclass(frozen=True, slots=True)
class About:
    """Where a model's weights were published, on which terms, and what they were trained on."""

    what: str
    origin: str
    licence: str
    use: str  # any | non-commercial | unstated: what the licence of the weights allows
    trained_on: tuple[str, ...]  # names of `training_data`; empty: no statement was found


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A set of photographs: `use` as in About, and its terms in words."""

    use: str
    terms: str


def with_address(path: Path = PATH) -> frozenset[str]:
    """The models that an address gives; read line by line, as a list of builds is to be quick."""
    found, without, name = set(), set(), ""
    _, _, models = path.read_text(encoding="utf-8").partition("\nmodels:\n")
    for line in models.splitlines():
        if line.startswith("  ") and line[2:3] not in (" ", "#", ""):
            name = line.strip().rstrip(":").strip('"')
            found.add(name)
        elif line.endswith("sources: []"):
            without.add(name)
    return frozenset(found - without)


@cache
def _document(path: Path) -> Mapping[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: Mapping[str, Any] = yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506
    return found


def entries(path: Path = PATH) -> Mapping[str, Any]:
    """Each entry as it stands there, by model name, in the order of the file."""
    found: Mapping[str, Any] = _document(path)["models"]
    return found


@cache
def about(path: Path = PATH) -> Mapping[str, About]:
    """By model name, in the order of the file."""
    return {name: _about(entry) for name, entry in entries(path).items()}


@cache
def built_in(path: Path = PATH) -> Mapping[str, tuple[str, About]]:
    """The networks inside the engine, by the plugin without its model: name and terms."""
    return {
        plugin: (name, _about(entry))
        for name, entry in _document(path)["built_in"].items()
        for plugin in entry["plugins"]
    }


@cache
def training_data(path: Path = PATH) -> Mapping[str, TrainingData]:
    """The sets that models were trained on, by name."""
    return {name: TrainingData(**one) for name, one in _document(path)["training_data"].items()}


def border(
    calculator: str, similarity: tuple[float, float] | None = None, path: Path = PATH
) -> Border | None:
    """The border that was measured of this calculator; None where none was, or nobody knows it.

    `similarity`: the coefficients that the engine says. A border holds with its own only.
    """
    name, base = plugin_table.model_of(calculator), plugin_table.split(calculator)[0]
    inside = _document(path)["built_in"].values()
    known = [one for one in inside if base in one["plugins"]]
    known += [one for model, one in entries(path).items() if model == name]
    for entry in known:
        same = similarity is None or all(map(isclose, entry.get("similarity", ()), similarity))
        if "border" in entry and same:
            return Border(**entry["border"])
    return None


def _about(entry: Mapping[str, Any]) -> About:
    said = entry["about"]
    return About(**{**said, "trained_on": tuple(said["trained_on"])})
