"""Fallbacks of a build: what takes the place of a plugin whose model cannot be fetched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compreface_cli import plugin_table
from compreface_cli.models.entry import Model
from compreface_cli.plan.image_name import image_name
from compreface_cli.plan.models import of_plugins
from compreface_cli.runtimes import joined

if TYPE_CHECKING:
    from compreface_cli.builds.builds import BuildFile
    from compreface_cli.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Fallback:
    """Of one plugin; it is not taken yet."""

    plugin: str
    model: str  # that the plugin needs
    instead: str | None  # the plugin in its place; None: it is left out
    models: tuple[Model, ...] = ()  # that `instead` needs


@dataclass(frozen=True, slots=True)
class Replaced:
    """A plugin whose fallback was taken."""

    plugin: str
    model: str  # that could not be fetched
    instead: str | None  # what answers in its place; None: it is left out
    reason: str = ""  # why it could not be fetched; a plan that is only foreseen has none


def words(fallbacks: Iterable[Fallback | Replaced]) -> str:
    """`agegender.AgeDetector is replaced by embedded.AgeDetector`, for messages."""
    each_one = (
        f"{each.plugin} is replaced by {each.instead}"
        if each.instead
        else f"{each.plugin} is left out"
        for each in fallbacks
    )
    return joined(each_one, "and")


def of_record(plan: Mapping[str, Any]) -> tuple[Replaced, ...]:
    """The fallbacks that an instance runs with; `plan`: as its record has it."""
    return tuple(Replaced(**each) for each in plan.get("replaced", ()))


def of_build(build: BuildFile, catalogue: Mapping[str, Model] | None) -> tuple[Fallback, ...]:
    """Those of its own plugins; raises ConfigurationError for an unknown model."""
    return tuple(
        Fallback(
            plugin,
            str(plugin_table.model_of(plugin)),
            instead,
            of_plugins(build, (instead,), catalogue) if instead else (),
        )
        for plugin, instead in build.spec.fallbacks.items()
    )


def optional(plan: Plan) -> dict[str, tuple[Fallback, ...]]:
    """By model, the fallbacks of the plugins that need it; without those that others need too."""
    by_plugin = {fallback.plugin: fallback for fallback in plan.fallbacks}
    users: dict[str, list[str]] = {}
    for plugin in (plan.detector, plan.calculator, *plan.plugins):
        users.setdefault(plugin_table.model_of(plugin) or "", []).append(plugin)
    return {
        model: tuple(by_plugin[plugin] for plugin in needing)
        for model, needing in users.items()
        if all(plugin in by_plugin for plugin in needing)
    }


def without(plan: Plan, missing: Mapping[str, str]) -> Plan:
    """The plan with the fallbacks of all plugins that need one of these models.

    `missing`: by model, why it could not be fetched. Each must be optional (`optional`).
    """
    gone = {
        fallback.plugin: fallback
        for model, users in optional(plan).items()
        if model in missing
        for fallback in users
    }
    kept = [gone[each].instead if each in gone else each for each in plan.plugins]
    models = [model for model in plan.models if model.name not in missing]
    models += [model for fallback in gone.values() for model in fallback.models]
    replaced = [
        Replaced(each.plugin, each.model, each.instead, missing[each.model])
        for each in gone.values()
    ]
    made = replace(
        plan,
        plugins=tuple(plugin for plugin in kept if plugin is not None),
        models=tuple({model.name: model for model in models}.values()),
        replaced=(*plan.replaced, *replaced),
        fallbacks=tuple(each for each in plan.fallbacks if each.plugin not in gone),
    )
    return replace(made, image=image_name(made))  # a plan for a named image has no fallbacks
