"""A build as its file has it, or as the plan that would run, with who set what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compreface_cli.builds import builds
from compreface_cli.builds.builds import BuildFile
from compreface_cli.checks import Finding, model_files, ui
from compreface_cli.config import settings
from compreface_cli.config.yamlfile import Fault, read, refuse
from compreface_cli.deploy import running
from compreface_cli.errors import CfError, ConfigurationError
from compreface_cli.models.entry import Border
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import asked_for, plan_of

# A build without faults, to try one plugin at a time in.
_BARE: Mapping[str, Any] = {
    "detector": "embedded.FaceDetector@mtcnn",
    "calculator": "embedded.Calculator@mobilefacenet192",
    "plugins": [],
    "runtime": "onnxruntime",
    "precision": "auto",
    "device": "cpu",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """A build file without a fault, and what of it does not run in this version."""

    build: BuildFile
    plan: Plan
    notes: tuple[str, ...]


def shown(name: str | None) -> BuildFile:
    """The build of that name, else the one that the settings choose."""
    return builds.load(name or settings.resolve().get("build"))


def unfit(flags: Mapping[str, Any]) -> list[Finding]:
    """What the UI lacks in the plan for these flags, under the settings that hold here."""
    try:
        plan, _ = asked_for(flags)
    except CfError:
        return []  # a build is shown whatever the settings are worth
    return [finding for finding in ui.judge(plan) if finding.level != "ok"]


@dataclass(frozen=True, slots=True)
class Weights:
    """What may be done with the weights of a build, and by network why, and what trained it."""

    licence: Mapping[str, Any]  # that its file states, else by the catalogue
    terms: Mapping[str, str]
    trained_on: Mapping[str, tuple[str, ...]]  # no set: not known


def weights(build: BuildFile) -> Weights:
    """What is known of the build's networks."""
    from compreface_cli.models import licence

    spec = build.spec
    plugins = (spec.detector, spec.calculator, *spec.plugins)
    stated = spec.facts.licence
    own = stated.model_dump(exclude_none=True) if stated else None
    return Weights(
        own or licence.together(plugins),
        {name: str(one) for name, one in licence.of(plugins, own).items()},
        licence.trained_on(plugins),
    )


def border(build: BuildFile) -> Border | None:
    """The similarity border of its calculator, None if nobody knows it or the build has a fault."""
    try:
        return plan_of(build).border
    except CfError:
        return None


def runtimes(build: str) -> dict[str, Mapping[str, Any]]:
    """What the engines of this build's running instances say of their networks, by instance."""
    records, _ = running.instances().all()
    wanted = [one for one in records if one.build == build and one.phase == "running"]
    said = {one.name: running.runtimes(one) for one in wanted if one.deployment}
    return {name: found for name, found in said.items() if found}


def accepted_hashes(plan: Plan, note: Callable[[str], None]) -> dict[str, list[str]]:
    """The SHA-256 of model files that this user accepted, by the name of the plan's models."""
    from compreface_cli.models import accepted, store

    if not plan.models:
        return {}
    try:
        kept = accepted.read(store.Places().accepted)
    except CfError as error:
        note(f"warning: {error.message}")
        return {}
    return {model.name: kept[model.name] for model in plan.models if model.name in kept}


def checked(path: Path) -> Checked:
    """Check a file as `cf up` would, without the settings of this user or folder."""
    build = builds.load(path if path.is_absolute() else Path.cwd() / path)
    _raise_for_plugins(build)
    plan = plan_of(build)
    notes = []
    if build.name != path.stem:
        notes.append(
            f"the build is called {build.name!r}: in a folder of builds its file must be "
            f"{build.name}.yaml"
        )
    # Whether a file of the build's own lies beside it is no matter of the build file.
    theirs = replace(plan, models=tuple(model for model in plan.models if not model.build_folder))
    notes += [f"{one.message}. {one.hint}" for one in model_files.out_of_reach(theirs)]
    return Checked(build, plan, tuple(notes))


def _raise_for_plugins(build: BuildFile) -> None:
    """Raise one error for all plugins whose model is missing or does not fit, with their lines."""
    places: dict[tuple[str | int, ...], dict[str, Any]] = {
        ("detector",): {"detector": build.spec.detector},
        ("calculator",): {"calculator": build.spec.calculator},
    }
    for number, plugin in enumerate(build.spec.plugins):
        places["plugins", number] = {"plugins": [plugin]}
    document = read(build.path)
    faults, hints = [], []
    for place, one in places.items():
        try:
            plan_of(replace(build, spec=build.spec.model_copy(update={**_BARE, **one})))
        except ConfigurationError as error:
            where = ".".join(map(str, place))
            line, column = document.position(place)
            faults.append(Fault(document.origin, line, column, f"{where}: {error.message}"))
            hints.append(error.hint or "")
    if faults:
        refused = refuse(sorted(faults, key=lambda one: (one.line, one.column)))
        refused.hint = _together(hints)
        raise refused


def _together(hints: list[str]) -> str:
    """Each hint once; what they show of `models:` entries becomes one list of them."""
    said: dict[str, list[str]] = {}
    for hint in hints:
        sentence, marked, entries = hint.partition("\nmodels:\n")
        said.setdefault(sentence + marked, []).append(entries)
    return "\n".join(
        sentence + "\n".join(dict.fromkeys(entries)) for sentence, entries in said.items()
    )
