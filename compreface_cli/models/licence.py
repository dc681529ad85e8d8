"""What may be done with weights: one rule for each model, and the strictest of several together."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from compreface_cli import plugin_table
from compreface_cli.models.catalogue import About, TrainingData, about, built_in, training_data

LEVELS = ("allowed", "unclear", "excluded")  # from lax to strict
_LONGEST = 500  # of a text in a build file


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
    """The one rule for commercial use of a model.

    A licence of the weights that forbids it excludes it. It is allowed where that licence allows
    it, and every set that the weights were trained on does too; else it is unclear.
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


def stricter(one: str, other: str) -> bool:
    """Whether the first of two words for commercial use allows less than the other."""
    return LEVELS.index(one) > LEVELS.index(other)


def together(plugins: Iterable[str], own: Mapping[str, Any] | None = None) -> dict[str, str]:
    """`facts.licence` of a build of these plugins.

    `own`: that of the build whose own models they take, as the catalogue knows nothing of them.
    """
    found = of(plugins, own)
    level = max((one.commercial for one in found.values()), key=LEVELS.index, default="allowed")
    reasons = {name: one.reason for name, one in found.items() if one.commercial == level}
    said = {
        "weights": _joined({name: one.licence for name, one in found.items()}) or "none",
        "commercial": level,
        "reason": _joined(reasons) if level != "allowed" else "",
    }
    return {key: value for key, value in said.items() if value}


def of(plugins: Iterable[str], own: Mapping[str, Any] | None = None) -> dict[str, Terms]:
    """The terms of each network of these plugins, by its name; `own` as for `together`."""
    return dict(filter(None, (_terms(plugin, own or {}) for plugin in plugins)))


def trained_on(plugins: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """By the name of each network that is known: the sets it was trained on, empty if not known."""
    named = (_known(plugin) for plugin in plugins)
    return {name: model.trained_on for name, model in filter(None, named)}


def _known(plugin: str) -> tuple[str, About] | None:
    model = plugin_table.model_of(plugin)
    if model is None:
        return built_in().get(plugin_table.split(plugin)[0])
    said = about().get(model)
    return None if said is None else (model, said)


def _terms(plugin: str, own: Mapping[str, Any]) -> tuple[str, Terms] | None:
    known = _known(plugin)
    if known is not None:
        return known[0], terms(known[1])
    model = plugin_table.model_of(plugin)
    if model is None:
        return None
    said = Terms(
        str(own.get("weights", "not known")),
        str(own.get("commercial", "unclear")),
        str(own.get("reason", "nothing is known of its terms")),
    )
    return model, said


def _joined(texts: Mapping[str, str]) -> str:
    """`a, b: text; c: text`: each text once, with the names it is about."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    whole = "; ".join(f"{', '.join(those)}: {text}" for text, those in names.items())
    return textwrap.shorten(whole, _LONGEST, placeholder=" ...")
