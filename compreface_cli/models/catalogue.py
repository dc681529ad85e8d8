"""The catalogue: the models that `cf` knows by name, with their origin, licence and training data.

The file comes with `cf`; its entries are validated by a test, because validating them at each start
would double the time of `cf list-builds`.
"""

from __future__ import annotations

from collections.abc import ItemsView, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import isclose
from pathlib import Path
from typing import Any, cast

from compreface_cli import plugin_table
from compreface_cli.config import parsed
from compreface_cli.models.entry import Border, Model
from compreface_cli.models.sources import Source

PATH = Path(__file__).with_name("catalogue.yaml")


@dataclass(frozen=True, slots=True)
class About:
    """The origin, licence and training data of a model's weights."""

    what: str
    origin: str
    licence: str
    use: str  # any | non-commercial | unstated: what the licence of the weights allows
    trained_on: tuple[str, ...]  # names of `training_data`; empty: no statement was found
    by_group: Mapping[str, float] = field(default_factory=dict)  # percent, by set of FaceGroups


@dataclass(frozen=True, slots=True)
class TrainingData:
    """A set of photographs: `use` as in About, and its terms as text."""

    use: str
    terms: str


@dataclass(frozen=True, slots=True)
class FaceGroups:
    """What `About.by_group` measures, who measured it, and the photographs of each group."""

    measure: str
    source: str
    sets: Mapping[str, str]


@cache
def _document(path: Path) -> Mapping[str, Any]:
    document: Mapping[str, Any] = parsed.data(path, _parse)
    return document


def _parse(raw: bytes, origin: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(raw, Loader=loader)  # noqa: S506


def names(path: Path = PATH) -> tuple[str, ...]:
    """The names of all models, in the order of the file."""
    return tuple(_document(path)["models"])


def entry(name: str, path: Path = PATH) -> dict[str, Any] | None:
    """The model's entry as in a build file, plus `about`; None if it is not in the catalogue."""
    known = _document(path)["models"].get(name)
    return None if known is None else {"name": name, **known}


def model(name: str, path: Path = PATH) -> Model | None:
    """The model of that name; None if it is not in the catalogue."""
    known = entry(name, path)
    return None if known is None else Model.from_entry(known)


def models(path: Path = PATH) -> dict[str, Model]:
    """All models by name, in the order of the file."""
    return {name: Model.from_entry({"name": name, **known}) for name, known in _entries(path)}


def has_address(name: str, path: Path = PATH) -> bool:
    """Whether every file of the model, or of one of its alternatives, has a source."""
    known = entry(name, path)
    return known is not None and any(
        all(file["sources"] for file in files["files"])
        for files in (known, *known.get("alternatives", ()))
    )


def download_size(source: Source, path: Path = PATH) -> int | None:
    """The size in bytes of that archive, or of that image's layer as it is downloaded, if known."""
    sizes = _document(path).get("download_sizes") or {}
    known: int | None = sizes.get(f"{source.digest}#{source.layer}", sizes.get(source.digest))
    return known


def _entries(path: Path) -> ItemsView[str, Any]:
    return cast("Mapping[str, Any]", _document(path)["models"]).items()


@cache
def about(path: Path = PATH) -> Mapping[str, About]:
    """The About of each model by name, in the order of the file."""
    return {name: _about(known) for name, known in _entries(path)}


@cache
def built_in(path: Path = PATH) -> Mapping[str, tuple[str, About]]:
    """Name and About of the engine's built-in networks, by plugin without its model."""
    return {
        plugin: (name, _about(known))
        for name, known in _document(path)["built_in"].items()
        for plugin in known["plugins"]
    }


@cache
def training_data(path: Path = PATH) -> Mapping[str, TrainingData]:
    """The training sets by name."""
    return {name: TrainingData(**data) for name, data in _document(path)["training_data"].items()}


def by_group(calculator: str, path: Path = PATH) -> Mapping[str, float]:
    """The figures of this calculator for each set of `face_groups`; empty if none are known."""
    for known in _of(calculator, path):
        return cast("Mapping[str, float]", known["about"].get("by_group", {}))
    return {}


def face_groups(path: Path = PATH) -> FaceGroups:
    return FaceGroups(**_document(path)["face_groups"])


def border(
    calculator: str, similarity: tuple[float, float] | None = None, path: Path = PATH
) -> Border | None:
    """The measured border of this calculator; None if none was measured or it is not known.

    `similarity`: the engine's coefficients; a border is valid only for those it was measured with.
    """
    for known in _of(calculator, path):
        same = similarity is None or all(map(isclose, known.get("similarity", ()), similarity))
        if "border" in known and same:
            return Border(**known["border"])
    return None


def _of(plugin: str, path: Path) -> list[Mapping[str, Any]]:
    """The entries of the network that this plugin runs."""
    name, base = plugin_table.model_of(plugin), plugin_table.split(plugin)[0]
    inside = _document(path)["built_in"].values()
    entries = [known for known in inside if base in known["plugins"]]
    return entries + [known for model, known in _entries(path) if model == name]


def _about(known: Mapping[str, Any]) -> About:
    about = known["about"]
    return About(**{**about, "trained_on": tuple(about["trained_on"])})
