"""Whether weights may be used commercially: the rule for a model, and the strictest of several."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compreface_cli import plugin_table
from compreface_cli.models.catalogue import About, TrainingData, about, built_in, training_data

LEVELS = ("allowed", "unclear", "excluded")  # in increasing strictness
_MAX_TEXT = 500  # characters, as in a build file


@dataclass(frozen=True, slots=True)
class Terms:
    """The licence of some weights, whether they may be used commercially, and why."""

    licence: str
    commercial: str  # one of LEVELS
    reason: str

    def __str__(self) -> str:
        known = "" if self.reason.startswith(self.licence) else f"{self.licence}; "
        return f"{self.commercial}; {known}{self.reason}"


def terms(model: About, sets: Mapping[str, TrainingData] | None = None) -> Terms:
    """The rule for commercial use of a model.

    Excluded if the licence of the weights forbids it. Allowed if that licence and the terms of
    every training set allow it. Otherwise unclear.
    """
    known = training_data() if sets is None else sets
    trained = ", ".join(f"{name} ({known[name].terms})" for name in model.trained_on)
    reason = f"trained on {trained}" if trained else "no statement of its training data was found"
    if model.use == "non-commercial":
        return Terms(model.licence, "excluded", f"{model.licence}; {reason}")
    if model.use == "unstated":
        return Terms(model.licence, "unclear", f"no licence is stated; {reason}")
    free = trained and all(known[name].use == "any" for name in model.trained_on)
    return Terms(model.licence, "allowed" if free else "unclear", reason)


def stricter(level: str, other: str) -> bool:
    """Whether the first of two LEVELS is stricter than the second."""
    return LEVELS.index(level) > LEVELS.index(other)


def together(plugins: Iterable[str], own: Mapping[str, Any] | None = None) -> dict[str, str]:
    """`facts.licence` of a build with these plugins.

    `own`: the `facts.licence` that applies to models which are not in the catalogue.
    """
    by_model = of(plugins, own)
    level = max(
        (terms.commercial for terms in by_model.values()), key=LEVELS.index, default="allowed"
    )
    reasons = {name: terms.reason for name, terms in by_model.items() if terms.commercial == level}
    licence = {
        "weights": _joined({name: terms.licence for name, terms in by_model.items()}) or "none",
        "commercial": level,
        "reason": _joined(reasons) if level != "allowed" else "",
    }
    return {key: value for key, value in licence.items() if value}


def of(plugins: Iterable[str], own: Mapping[str, Any] | None = None) -> dict[str, Terms]:
    """The terms of each network of these plugins by name; `own` as in `together`."""
    return dict(filter(None, (_terms(plugin, own or {}) for plugin in plugins)))


def trained_on(plugins: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The training sets of each known network by name; empty if they are not known."""
    named = (_known(plugin) for plugin in plugins)
    return {name: model.trained_on for name, model in filter(None, named)}


def _known(plugin: str) -> tuple[str, About] | None:
    model = plugin_table.model_of(plugin)
    if model is None:
        return built_in().get(plugin_table.split(plugin)[0])
    known = about().get(model)
    return None if known is None else (model, known)


def _terms(plugin: str, own: Mapping[str, Any]) -> tuple[str, Terms] | None:
    known = _known(plugin)
    if known is not None:
        return known[0], terms(known[1])
    model = plugin_table.model_of(plugin)
    if model is None:
        return None
    return model, Terms(
        str(own.get("weights", "not known")),
        str(own.get("commercial", "unclear")),
        str(own.get("reason", "as the build file states" if own else "its terms are not known")),
    )


def _joined(texts: Mapping[str, str]) -> str:
    """Each text once, with the names that have it: `a, b: text; c: text`."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    joined = "; ".join(f"{', '.join(group)}: {text}" for text, group in names.items())
    return textwrap.shorten(joined, _MAX_TEXT, placeholder=" ...")
