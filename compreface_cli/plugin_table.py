"""The plugins that a build may name, read from the engine's table: role and models of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from compreface_cli import resources

Role: TypeAlias = Literal["detector", "calculator", "analyzer"]
Format: TypeAlias = Literal[
    "onnx",
    "tensorflow-graph",
    "tensorflow-checkpoint",
    "tensorflow-saved-model",
    "tflite",
    "mxnet",
    "mxnet-gluon",
    "pytorch",
]
Network: TypeAlias = Literal[
    "mobilenet_v2",
    "resnet18_v1",
    "inception_v3_age",
    "inception_v3_gender",
    "inception_resnet_v1",
]


@dataclass(frozen=True, slots=True)
class Plugin:
    """A row of the engine's table of plugins (`plugins.json`).

    `models`: the models it has, the default first; `()`: it needs none; None: it runs a model of
    the build or the catalogue, which must be named. `fits`: the catalogue's models that it can run
    then; empty for a calculator, which runs any.
    """

    role: Role
    models: tuple[str, ...] | None
    fits: tuple[str, ...]
    built_in: bool  # its models are part of the engine, and must be named


def _read(table: Path) -> dict[str, Plugin]:
    roles: Mapping[Role, Mapping[str, Mapping[str, Any]]] = json.loads(table.read_bytes())
    return {
        name: Plugin(
            role,
            None if row["models"] == "any" else tuple(row["models"]),
            tuple(row.get("fits", ())),
            row.get("built_in", False),
        )
        for role, rows in roles.items()
        for name, row in rows.items()
    }


PLUGINS: Mapping[str, Plugin] = _read(resources.engine_table("plugins"))
# Plugins for everything that CompreFace's UI shows of a face, without a model to prepare; the
# default `plugins` of a build.
UI_PLUGINS = (
    "facenet.LandmarksDetector",
    "facenet.PoseEstimator",
    "embedded.AgeDetector",
    "embedded.GenderDetector",
)


def split(plugin: str) -> tuple[str, str | None]:
    """The notation `BASE@MODEL` as base and model; the model is None if it is not named."""
    base, _, model = plugin.partition("@")
    return base, model or None


def role(plugin: str) -> Role | None:
    """The role of a plugin, or None for an unknown notation."""
    base, model = split(plugin)
    row = PLUGINS.get(base)
    if row is None or (row.models is None and model is None):
        return None
    if row.models is not None and model is not None and model not in row.models:
        return None
    return None if row.built_in and model is None else row.role


def model_of(plugin: str) -> str | None:
    """The name of the model to prepare for this plugin, or None if it needs none."""
    base, model = split(plugin)
    row = PLUGINS.get(base)
    if row is None or row.built_in:
        return None
    return model or (row.models[0] if row.models else None)


# What CompreFace before 0.6 called its FaceNet model. The demo faces have this name, too.
_BEFORE_0_6 = {"Facenet2018": "facenet.Calculator"}


def same_calculator(one: str, other: str) -> bool:
    """Whether two calculators of stored embeddings are one model, so that they compare.

    CompreFace stores the notation of its settings: `facenet.Calculator` and
    `facenet.Calculator@20180402-114759` name the same model.
    """
    return _with_model(one) == _with_model(other)


def _with_model(calculator: str) -> str:
    """The notation with the model that it names or leaves to the default."""
    calculator = _BEFORE_0_6.get(calculator, calculator)
    model = model_of(calculator)
    return calculator if model is None else f"{split(calculator)[0]}@{model}"


def kind(plugin: str) -> str:
    """The last part of the name, AgeDetector: which field it returns, whatever network it runs."""
    return split(plugin)[0].rpartition(".")[2]


def model_role(plugin: str) -> Role:
    """The role that this plugin's model must have: its own."""
    return PLUGINS[split(plugin)[0]].role


def models_of(plugins: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """The models to prepare for these plugins, each once, in the order of the plugins."""
    named = (model_of(plugin) for plugin in plugins)
    return tuple(dict.fromkeys(name for name in named if name is not None))


def known(wanted: Role) -> list[str]:
    """All notations of that role that need no `models:` entry in the build."""
    notations = []
    for base, row in PLUGINS.items():
        if row.role != wanted:
            continue
        if row.models is not None and not row.built_in:
            notations.append(base)
        notations += [f"{base}@{model}" for model in (row.models or row.fits)]
    return notations


def shown(wanted: Role) -> list[str]:
    """The plugins of that role, once each: `BASE@NAME` for one that runs any model."""
    rows = ((base, row) for base, row in PLUGINS.items() if row.role == wanted)
    return [
        f"{base}@NAME"
        if row.models is None
        else f"{base}@{row.models[0]}"
        if row.built_in
        else base
        for base, row in rows
    ]


_WORDS: Mapping[Role, str] = {
    "detector": "detector",
    "calculator": "calculator",
    "analyzer": "further plugin",
}


def fault(plugin: str, wanted: Role) -> str | None:
    """Why a notation does not name a plugin of that role; None if it does."""
    if role(plugin) == wanted:
        return None
    base, model = split(plugin)
    row = PLUGINS.get(base)
    if row is not None and row.role != wanted:
        return f"{plugin} is a {_WORDS[row.role]}, not a {_WORDS[wanted]}"
    if row is not None and row.models is None:
        like = f", like {base}@{row.fits[0]}" if row.fits else ""
        return f"{plugin} names no model: write {base}@NAME{like}"
    if row is not None and row.models == ():
        return f"{base} takes no model, but {plugin} names one"
    from difflib import get_close_matches

    close = get_close_matches(plugin, known(wanted), n=1, cutoff=0.6)
    suggestion = f"; did you mean {close[0]!r}?" if close else ""
    if row is not None and row.models:
        models = f": its models are {', '.join(row.models)}"
        problem = f"has no model {model!r}" if model else "needs one of its models named"
        return f"{base} {problem}{suggestion or models}"
    return f"unknown {_WORDS[wanted]} {plugin!r}{suggestion}"


def misplaced(plugin: str, model: str) -> str | None:
    """Why a catalogue model does not fit this plugin; None if it fits, or nothing is known."""
    base, _ = split(plugin)
    row = PLUGINS[base]
    if row.models is not None or not row.fits or model in row.fits:
        return None
    fitting = [
        f"{other}@{model}"
        for other, other_row in PLUGINS.items()
        if model in other_row.fits and other_row.role == row.role
    ]
    suggestion = f"; did you mean {fitting[0]!r}?" if fitting else ""
    return f"{base} cannot run the catalogue's model {model}{suggestion}"
