"""`cf show` and `cf validate`: a build file, its checks, licence, border and runtimes."""

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
from compreface_cli.inspect import list_builds
from compreface_cli.inspect.list_builds import Row
from compreface_cli.models.entry import Border
from compreface_cli.plan import fallbacks
from compreface_cli.plan.fallbacks import Replaced
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import asked_for, plan_of

# A valid build, in which plugins are checked one at a time.
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
    """A valid build file, its plan, and notes about it."""

    build: BuildFile
    plan: Plan
    notes: tuple[str, ...]


def shown(name: str | None) -> BuildFile:
    """The build of that name, by default the one that the settings name."""
    return builds.load(name or settings.resolve().get("build"))


def ui_findings(flags: Mapping[str, Any]) -> list[Finding]:
    """Findings about what the UI needs and the plan for these flags and settings lacks."""
    try:
        plan, _ = asked_for(flags)
    except CfError:
        return []  # invalid settings do not prevent showing a build
    return [finding for finding in ui.judge(plan) if finding.level != "ok"]


def row(build: BuildFile) -> Row:
    """The build as `cf list-builds` sees it."""
    listed = builds.Listed(build.name, build.origin, build.path, read(build.path).data)
    return list_builds.observe(listed)[0]


@dataclass(frozen=True, slots=True)
class Weights:
    """The licence of a build's weights; by network its terms and training sets."""

    licence: Mapping[str, Any]  # the strictest of all: its file speaks for its own models only
    terms: Mapping[str, str]
    trained_on: Mapping[str, tuple[str, ...]]  # empty: not known


def weights(build: BuildFile) -> Weights:
    """The licence, terms and training sets of the build's networks."""
    from compreface_cli.models import licence

    spec = build.spec
    plugins = (spec.detector, spec.calculator, *spec.plugins)
    stated = spec.facts.licence
    own = stated.model_dump(exclude_none=True) if stated else None
    return Weights(
        licence.together(plugins, own),
        {name: str(terms) for name, terms in licence.of(plugins, own).items()},
        licence.trained_on(plugins),
    )


def border(build: BuildFile) -> Border | None:
    """The similarity border of its calculator; None if it is not known or the build is invalid."""
    try:
        return plan_of(build).border
    except CfError:
        return None


def runtimes(build: str) -> dict[str, Mapping[str, Any]]:
    """The runtimes of each network in this build's running instances, by instance."""
    records, _ = running.instances().all()
    by_instance = {
        record.name: running.runtimes(record)
        for record in records
        if record.build == build and record.phase == "running" and record.deployment
    }
    return {name: networks for name, networks in by_instance.items() if networks}


def replaced(build: str) -> dict[str, tuple[Replaced, ...]]:
    """By running instance of this build, the plugins whose models could not be fetched."""
    records, _ = running.instances().all()
    by_instance = {
        record.name: fallbacks.of_record(record.plan)
        for record in records
        if record.build == build and record.phase == "running"
    }
    return {name: plugins for name, plugins in by_instance.items() if plugins}


def accepted_hashes(plan: Plan, note: Callable[[str], None]) -> dict[str, list[str]]:
    """The SHA-256 values that this user accepted for the plan's models, by name."""
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
    """Check a build file as `cf up` would, but without settings; raises ConfigurationError."""
    build = builds.load(path if path.is_absolute() else Path.cwd() / path)
    _raise_for_plugins(build)
    plan = plan_of(build)
    notes = []
    if build.name != path.stem:
        notes.append(
            f"the build is named {build.name!r}: in a folder of builds, its file must be named "
            f"{build.name}.yaml"
        )
    # The files beside a build file are not part of the check.
    others = replace(plan, models=tuple(model for model in plan.models if not model.build_folder))
    findings = model_files.out_of_reach(others)
    notes += [f"{finding.message}. {finding.hint}" for finding in findings]
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
    for place, plugin_keys in places.items():
        try:
            plan_of(replace(build, spec=build.spec.model_copy(update={**_BARE, **plugin_keys})))
        except ConfigurationError as error:
            where = ".".join(map(str, place))
            line, column = document.position(place)
            faults.append(Fault(document.origin, line, column, f"{where}: {error.message}"))
            hints.append(error.hint or "")
    if faults:
        refused = refuse(sorted(faults, key=lambda fault: (fault.line, fault.column)))
        refused.hint = _merged(hints)
        raise refused


def _merged(hints: list[str]) -> str:
    """Each hint once, with the `models:` entries that they show in one list."""
    entries_by_text: dict[str, list[str]] = {}
    for hint in hints:
        sentence, marked, entries = hint.partition("\nmodels:\n")
        entries_by_text.setdefault(sentence + marked, []).append(entries)
    return "\n".join(
        text + "\n".join(dict.fromkeys(entries)) for text, entries in entries_by_text.items()
    )
