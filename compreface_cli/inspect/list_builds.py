"""`cf list-builds`: the builds with accuracy, terms and state; reads files, asks Docker once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compreface_cli import cpu, plugin_table
from compreface_cli.builds import builds, measured
from compreface_cli.builds.measured import Measured
from compreface_cli.config import paths
from compreface_cli.docker import probe
from compreface_cli.docker.probe import Quick
from compreface_cli.errors import CfError
from compreface_cli.inspect import models_here
from compreface_cli.models import catalogue, licence
from compreface_cli.models.entry import Border
from compreface_cli.models.places import Places, mirror_fault
from compreface_cli.runtimes import FLAGS, REFERENCE

_NO_PURPOSE = {"bundled": "", "imported": "imported"}  # what a build without `good_for` is for
ACCURACY_SET = "LFW"  # the one that nearly every build has a published figure of


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # each would take a millisecond
class Row:
    """A build in the list; None: not known."""

    name: str
    origin: str
    path: str
    fault: str = ""
    summary: str = ""
    good_for: str = ""
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
    by_group: Mapping[str, float] = field(default_factory=dict)  # as About.by_group
    measured: Measured | None = None
    trained_on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by network
    models: Mapping[str, str] = field(default_factory=dict)  # name -> here | missing | damaged
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # as Models.sources
    to_give: tuple[str, ...] = ()  # models without an address, which the user must supply
    download: int | None = None  # bytes of all files of its models, fetched or not
    to_download: int | None = None  # those bytes that are not on this machine
    to_fetch: tuple[str, ...] = ()  # models without a fallback that must be downloaded
    images: tuple[str, ...] | None = None
    running: tuple[str, ...] | None = None  # instances
    unaccepted: tuple[str, ...] = ()  # models whose licence `cf up` asks about
    why_not: str = ""  # one word: why it does not start on this host now; "": it starts

    @property
    def runnable(self) -> bool:
        """Whether this host can run it, once a licence is accepted and its models are fetched."""
        return self.why_not in ("", "licence")

    @property
    def more_flags(self) -> bool:
        """Whether its runtime needs CPU flags that the reference runtime does not need."""
        return not set(self.cpu_flags) <= FLAGS[REFERENCE]

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

    def figure(self, of_set: str) -> float | None:
        """The first recognition accuracy on that set, in percent; None without any."""
        for figure in self.accuracy:
            same = str(figure.get("set", "")).lower() == of_set.lower()
            value = figure.get("value")
            if same and figure.get("of", "recognition") == "recognition":
                return float(value) if isinstance(value, int | float) else None
        return None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Host:
    """What the state of a build on this host depends on."""

    flags: frozenset[str] | None  # of its CPU; None: not known, or none are needed
    gpu: bool
    network: bool = True
    docker: Quick | None = None
    alive: Mapping[str, Sequence[str]] = field(default_factory=dict)  # as of `_instances`
    composed: Set[str] = frozenset()
    places: Places = field(default_factory=Places)
    consent: models_here.Consent = field(default_factory=models_here.Consent)


def rows(host: Host, listed: Iterable[builds.Listed]) -> list[Row]:
    """These builds; last those whose models the user must supply."""
    return sorted((_row(build, host) for build in listed), key=lambda row: bool(row.to_give))


def observe(only: builds.Listed | None = None) -> list[Row]:
    """All builds, or that one, with their state on this host and its Docker engine."""
    alive, composed = _instances()
    host = Host(
        flags=cpu.flags(every_core=False) if cpu.architecture() == "amd64" else None,
        gpu=os.path.exists("/dev/nvidia0"),
        network=models_here.network(),
        docker=probe.ask(),
        alive=alive,
        composed=composed,
    )
    return rows(host, [only] if only else builds.listed())


def _row(build: builds.Listed, host: Host) -> Row:
    data = build.data
    facts = _mapping(data.get("facts"))
    plugins = _words(data.get("plugins", list(plugin_table.UI_PLUGINS)))
    detector, calculator = str(data.get("detector", "")), str(data.get("calculator", ""))
    runtime = str(data.get("runtime", "onnxruntime"))
    device = str(data.get("device", "cpu"))
    flags = tuple(sorted(FLAGS.get(runtime, ())))
    models = models_here.of(build, (detector, calculator, *plugins), host.places)
    running: tuple[str, ...] | None = tuple(host.alive.get(build.name, ()))
    if host.docker is not None:
        running = (*host.docker.running.get(build.name, ()), *(running or ()))
    elif build.name in host.composed:
        running = running or None  # only Docker knows whether its containers run
    fault = build.fault or _refusal(build)
    stated = _mapping(facts.get("licence"))
    terms = {} if fault else licence.of((detector, calculator, *plugins), stated)
    unaccepted = host.consent.unaccepted(terms, models.fetched)
    unready = any(state != "here" for state in models.states.values())
    obstacles = {
        "file": bool(fault),
        "GPU": device == "cuda" and not host.gpu,
        "CPU": host.flags is not None and not host.flags >= set(flags),
        "mirror": bool(mirror_fault(host.places.mirror)) and unready,
        "weights": bool(models.to_give),
        "network": bool(models.to_fetch) and not host.network,
        "licence": bool(unaccepted),
    }
    return Row(
        name=build.name,
        origin=build.origin,
        path=str(build.path),
        fault=fault,
        summary=str(data.get("summary", "")),
        good_for=str(facts.get("good_for") or _NO_PURPOSE.get(build.origin, "your own")),
        detector=detector,
        calculator=calculator,
        plugins=plugins,
        runtime=runtime,
        device=device,
        cpu_flags=flags,
        accuracy=tuple(_mapping(entry) for entry in facts.get("accuracy") or ()),
        licence=stated if fault else licence.together((detector, calculator, *plugins), stated),
        upstream=str(facts.get("upstream", "")),
        note=str(facts.get("note", "")),
        border=None if fault else _border(build, calculator),
        by_group=catalogue.by_group(calculator),
        measured=None if fault else measured.of(data),
        trained_on={} if fault else licence.trained_on((detector, calculator, *plugins)),
        models=models.states,
        sources=models.sources,
        to_give=models.to_give,
        download=models.download,
        to_download=models.left,
        to_fetch=models.to_fetch,
        unaccepted=unaccepted,
        images=None if host.docker is None else host.docker.images.get(build.name, ()),
        running=running,
        why_not=next((word for word, stops in obstacles.items() if stops), ""),
    )


def _refusal(build: builds.Listed) -> str:
    """Why `cf up` would refuse the build, or ""; bundled builds are not checked."""
    if build.origin == "bundled":
        return ""
    from compreface_cli.plan.resolve import plan_of  # late: it takes longer than the list

    try:
        plan_of(str(build.path) if build.origin == "path" else build.name)
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
