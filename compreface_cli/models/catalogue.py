"""The catalogue: the models that `cf` knows by name, and what is known about each.

The file is `cf`'s own, and a test holds its entries to the rules of a build's: checking them at
each start would cost as much as all the rest of a list of builds.
"""

from __future__ import annotations

from collections.abc import ItemsView, Mapping
from dataclasses import dataclass
from functools import cache
from math import isclose
from pathlib import Path
from typing import Any, cast

from compreface_cli import plugin_table
from compreface_cli.models.entry import Border, Model

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


@cache
def _document(path: Path) -> Mapping[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document: Mapping[str, Any] = yaml.load(path.read_bytes(), Loader=loader)  # noqa: S506
    return document


def names(path: Path = PATH) -> tuple[str, ...]:
    """Of all models, in the order of the file."""
    return tuple(_document(path)["models"])


def entry(name: str, path: Path = PATH) -> dict[str, Any] | None:
    """The model's entry as a build file would have it, with `about` on top; None: not known."""
    known = _document(path)["models"].get(name)
    return None if known is None else {"name": name, **known}


def model(name: str, path: Path = PATH) -> Model | None:
    """The model of that name; None: not known."""
    known = entry(name, path)
    return None if known is None else Model.from_entry(known)


def models(path: Path = PATH) -> dict[str, Model]:
    """All models by name, in the order of the file."""
    return {name: Model.from_entry({"name": name, **known}) for name, known in _entries(path)}


def has_address(name: str, path: Path = PATH) -> bool:
    """Whether every file of the model can be fetched from somewhere."""
    known = entry(name, path)
    return known is not None and all(file["sources"] for file in known["files"])


def _entries(path: Path) -> ItemsView[str, Any]:
    return cast("Mapping[str, Any]", _document(path)["models"]).items()


@cache
def about(path: Path = PATH) -> Mapping[str, About]:
    """By model name, in the order of the file."""
    return {name: _about(known) for name, known in _entries(path)}


@cache
def built_in(path: Path = PATH) -> Mapping[str, tuple[str, About]]:
    """The networks inside the engine, by the plugin without its model: name and terms."""
    return {
        plugin: (name, _about(known))
        for name, known in _document(path)["built_in"].items()
        for plugin in known["plugins"]
    }


@cache
def training_data(path: Path = PATH) -> Mapping[str, TrainingData]:
    """The sets that models were trained on, by name."""
    return {name: TrainingData(**data) for name, data in _document(path)["training_data"].items()}


def border(
    calculator: str, similarity: tuple[float, float] | None = None, path: Path = PATH
) -> Border | None:
    """The border that was measured of this calculator; None where none was, or nobody knows it.

    `similarity`: the coefficients that the engine says. A border holds with its own only.
    """
    name, base = plugin_table.model_of(calculator), plugin_table.split(calculator)[0]
    inside = _document(path)["built_in"].values()
    candidates = [known for known in inside if base in known["plugins"]]
    candidates += [known for model, known in _entries(path) if model == name]
    for known in candidates:
        same = similarity is None or all(map(isclose, known.get("similarity", ()), similarity))
        if "border" in known and same:
            return Border(**known["border"])
    return None


def _about(known: Mapping[str, Any]) -> About:
    about = known["about"]
    return About(**{**about, "trained_on": tuple(about["trained_on"])})
