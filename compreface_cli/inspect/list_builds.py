"""`cf list-builds`: the builds with accuracy, terms and state; reads files, asks Docker once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compreface_cli import cpu, plugin_table
from compreface_cli.builds import builds
from compreface_cli.config import paths
from compreface_cli.docker import probe
from compreface_cli.docker.probe import Quick
from compreface_cli.errors import CfError
from compreface_cli.models import catalogue, licence
from compreface_cli.models.entry import Border, Model
from compreface_cli.plan.resolve import plan_of
from compreface_cli.runtimes import FLAGS


@dataclass(frozen=True, slots=True)
class Row:
    """A build in the list; None: not known."""

    name: str
    origin: str
    path: str
    fault: str = ""
    summary: str = ""
    detector: str = ""
    calculator: str = ""
    plugins: tuple[str, ...] = ()
    runtime: str = "onnxruntime"
    device: str = "cpu"
    cpu_flags: tuple[str, ...] = ()
    accuracy: tuple[Mapping[str, Any], ...] = ()
    licence: Mapping[str, Any] = field(default_factory=dict)
    upstream: str = ""
    note: str = ""
    border: Border | None = None  # of the calculator, if known
    trained_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by network
    models: Mapping[str, str] = field(default_factory=dict)  # name -> here | missing | damaged
    to_give: tuple[str, ...] = ()  # models without an address, which the user must supply
    images: tuple[str, ...] | None = None
    running: tuple[str, ...] | None = None  # instances
    runnable: bool = False  # on this host

    @property
    def commercial(self) -> str:
        """allowed, unclear or excluded; ? for a broken file that states nothing."""
        return str(self.licence.get("commercial", "?" if self.fault else "unclear"))

    @property
    def models_state(self) -> str:
        """built in, here, missing, damaged or to give (the user must supply it); ? if not known."""
        if self.to_give:
            return "to give"
        if not self.models:
            return "?" if self.fault else "built in"
        states = set(self.models.values())
        return next(state for state in ("damaged", "missing", "here") if state in states)

    def figure(self, of_set: str) -> Any:
        """The first recognition accuracy on that set; None without any."""
        for figure in self.accuracy:
            same = str(figure.get("set", "")).lower() == of_set.lower()
            if same and figure.get("of", "recognition") == "recognition":
                return figure.get("value")
        return None


def rows(docker: Quick | None, *, host_flags: frozenset[str] | None, gpu: bool) -> list[Row]:
    """All builds, the default first, those whose models the user must supply last."""
    alive, composed = _instances()
    listed = [_row(build, docker, alive, composed, host_flags, gpu) for build in builds.listed()]
    return sorted(listed, key=lambda row: bool(row.to_give))


def observe() -> list[Row]:
    """All builds, with their state on this host and its Docker engine."""
    flags = cpu.flags(every_core=False) if cpu.architecture() == "amd64" else None
    return rows(probe.ask(), host_flags=flags, gpu=os.path.exists("/dev/nvidia0"))


def _row(
    build: builds.Listed,
    docker: Quick | None,
    alive: Mapping[str, Sequence[str]],
    composed: Set[str],
    host_flags: frozenset[str] | None,
    gpu: bool,
) -> Row:
    data = build.data
    facts = _mapping(data.get("facts"))
    plugins = _words(data.get("plugins", list(plugin_table.UI_PLUGINS)))
    detector, calculator = str(data.get("detector", "")), str(data.get("calculator", ""))
    runtime = str(data.get("runtime", "onnxruntime"))
    device = str(data.get("device", "cpu"))
    flags = tuple(sorted(FLAGS.get(runtime, ())))
    models, to_give = _models(build, (detector, calculator, *plugins))
    running: tuple[str, ...] | None = tuple(alive.get(build.name, ()))
    if docker is not None:
        running = (*docker.running.get(build.name, ()), *(running or ()))
    elif build.name in composed:
        running = running or None  # only Docker knows whether its containers run
    fits = host_flags is None or host_flags >= set(flags)
    fault = build.fault or _refusal(build)
    ready = not fault and not to_give
    return Row(
        name=build.name,
        origin=build.origin,
        path=str(build.path),
        fault=fault,
        summary=str(data.get("summary", "")),
        detector=detector,
        calculator=calculator,
        plugins=plugins,
        runtime=runtime,
        device=device,
        cpu_flags=flags,
        accuracy=tuple(_mapping(entry) for entry in facts.get("accuracy") or ()),
        licence=_mapping(facts.get("licence"))
        or ({} if fault else licence.together((detector, calculator, *plugins))),
        upstream=str(facts.get("upstream", "")),
        note=str(facts.get("note", "")),
        border=None if fault else _border(build, calculator),
        trained_on={} if fault else licence.trained_on((detector, calculator, *plugins)),
        models=models,
        to_give=to_give,
        images=None if docker is None else docker.images.get(build.name, ()),
        running=running,
        runnable=ready and fits and (device == "cpu" or gpu),
    )


def _refusal(build: builds.Listed) -> str:
    """Why `cf up` would refuse the build, or ""; bundled builds are not checked."""
    if build.origin == "bundled":
        return ""
    try:
        plan_of(build.name)
    except CfError as error:
        return error.message
    return ""


def _border(build: builds.Listed, calculator: str) -> Border | None:
    """The border that a valid build states for its calculator's model, else the catalogue's."""
    name = plugin_table.model_of(calculator)
    own = [entry for entry in build.data.get("models") or () if entry.get("name") == name]
    stated = own[0].get("border") if own else None
    return Border(**stated) if stated else catalogue.border(calculator)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _models(
    build: builds.Listed, plugins: tuple[str, ...]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The state of each of the build's models by name, and those that the user must supply."""
    entries = build.data.get("models")
    own = {
        str(entry.get("name")): entry
        for entry in map(_mapping, entries if isinstance(entries, list) else ())
    }
    states: dict[str, str] = {}
    to_give = []
    for name in plugin_table.models_of(plugins):
        states[name], obtainable = _state(build, name, own.get(name))
        if not obtainable:
            to_give.append(name)
    return states, tuple(to_give)


def _state(build: builds.Listed, name: str, own: Mapping[str, Any] | None) -> tuple[str, bool]:
    """The state of a model, and whether it is here or can be downloaded."""
    if own is None and not _may_be_here(name):
        return "missing", catalogue.has_address(name)
    from compreface_cli.models import store

    try:
        model = _model(build, name, own)
        if model is None:
            return "missing", False
        return store.state(model), store.obtainable(model)
    except CfError:
        return "missing", False  # `cf validate` and `cf up` report the fault


def _may_be_here(name: str) -> bool:
    """Whether the store has a folder of that name, or a mirror is set."""
    folders = (paths.models_dir() / name, paths.cache_dir() / "weights" / name)
    return bool(os.environ.get("CF_MODELS_MIRROR")) or any(path.exists() for path in folders)


def _model(build: builds.Listed, name: str, own: Mapping[str, Any] | None) -> Model | None:
    if own is None:
        return catalogue.model(name)
    from compreface_cli.builds.spec import model_from_data

    beside = "" if build.origin == "bundled" else str(build.path.parent)
    return builds.model_of(model_from_data(dict(own), str(build.path)), beside)


def _instances() -> tuple[dict[str, list[str]], set[str]]:
    """From this user's records: build -> instances that run as local processes, and the builds
    that were started with Docker."""
    alive: dict[str, list[str]] = {}
    composed: set[str] = set()
    if not paths.instances_dir().is_dir():
        return alive, composed
    from compreface_cli.instance.records import Instances

    records, _ = Instances(paths.instances_dir()).all()  # `cf status` names those it cannot read
    for record in records:
        if record.phase != "running":
            continue
        try:
            if record.deployment["launcher"] != "process":
                composed.add(record.build)
                continue
            folder = Path(record.deployment["data"]["folder"])
            pid = int(json.loads((folder / "state.json").read_text())["child"]["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it ended during its start, or its folder was removed
        if os.path.exists(f"/proc/{pid}"):
            alive.setdefault(record.build, []).append(record.name)
    return alive, composed
