"""What `cf up` does, as data: the operations that follow from the plan and from what was observed.

`cf up --dry-run` prints this list, `cf up` executes it (deploy/steps.py has a function for each
verb), so that the two cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compreface_cli import plugin_table
from compreface_cli.plan import fallbacks
from compreface_cli.plan.plan import Plan

Verb = Literal[
    "put right",  # what an earlier run that was cut off has left
    "make environment",
    "prepare model",
    "write project",
    "pull image",
    "build image",
    "create volume",
    "start",
    "try",
    "replace",
    "start beside",
    "take over",
    "replace engine",
    "add engine",
    "end engine",
    "make anew",
    "push image",
    "roll out",
    "reconcile",
    "check",
]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that `up` does, to what, and why."""

    verb: Verb
    target: str
    cause: str


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `cf up` besides the plan; build: None as needed, True always, False never."""

    build: bool | None = None
    pull: bool = False  # pull newer images from the registries
    dry_run: bool = False
    timeout_s: float | None = None
    accept_hash: Mapping[str, Sequence[str]] = field(default_factory=dict)
    wheels: Path | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """The state of this machine from which the operations of `cf up` follow.

    What a later operation only brings to light (whether a registry has a newer image, which files a
    model becomes) counts as changed; that operation's function then leaves alone what is the same.
    """

    models: Set[str] = frozenset()  # names of the plan's models that are prepared and intact
    environments: Set[str] = frozenset()  # rows of the wheel table: made and proven
    converter: str = "cpu"  # the row of the environment that prepares models
    computes: bool = False  # although all are prepared, something must be computed with them
    project: Literal["absent", "same", "differs"] = "absent"  # compose: the rendered folder
    image: bool = False  # compose: the engine's image is here, made from exactly these files
    base: bool = False  # compose: the image that it is built upon is here
    base_moved: bool = False  # compose: and is another one than it was built upon
    stack_images: Set[str] = frozenset()  # compose: images of the other services that are here
    pushed: bool = False  # swarm: the registry has the engine's image, as far as is known here
    volume: bool = False  # compose: the database volume exists
    runs: bool = False  # the instance does
    instance_of: str = ""  # build that runs, for the texts
    # services that run, and of these: which are made anew, and why
    services: tuple[str, ...] = ("core",)
    changes: Mapping[str, str] = field(default_factory=dict)
    engines: int = 1  # that run under the one name
    # why the new engine cannot take over from the running one beside it; empty: it can
    obstacle: str = "it is not a stack with the UI"
    start_s: Mapping[str, float] = field(default_factory=dict)  # service -> seconds, where known
    lost: str = ""  # why an instance that should run does not: "core is missing: no container"


@dataclass(frozen=True, slots=True)
class Away:
    """A service that is unavailable during the operations; `seconds`: as at its last start."""

    service: str
    seconds: float | None
    cause: str


def operations(wanted: Plan, observed: Observed, options: Options) -> tuple[Operation, ...]:
    """What `up` does, in order. `wanted.launcher` is settled (not auto)."""
    steps = [*_environments(wanted, observed), *_models(wanted, observed)]
    if wanted.in_containers:
        images = list(_compose(wanted, observed, options))
        # Nothing of these depends on what is only tried: a named image may be refused before.
        steps = [*images, *steps] if observed.computes else [*steps, *images]
    if not observed.runs:
        steps.append(Operation("start", wanted.instance, observed.lost or "it does not run"))
    elif wanted.launcher == "swarm" and observed.obstacle:
        cause = f"what runs ({observed.instance_of or wanted.build}) gives way: {observed.obstacle}"
        steps.append(Operation("replace", wanted.instance, cause))
    elif wanted.launcher == "swarm":
        steps += _rolled_out(wanted, observed.changes)
    elif observed.obstacle:
        cause = f"what runs ({observed.instance_of or wanted.build}) stays until this one answers"
        steps.append(Operation("try", "the engine on a spare port", cause))
        cause = f"the new engine has answered and cannot take over beside it: {observed.obstacle}"
        steps.append(Operation("replace", wanted.instance, cause))
    else:
        steps += _beside(wanted, observed.changes, observed.engines)
    steps.append(Operation("check", "a known face", "ready means that the answer is right"))
    return tuple(steps)


def away(observed: Observed) -> tuple[Away, ...]:
    """The running services that are unavailable while the operations are carried out."""
    if not observed.runs:
        return ()
    if observed.obstacle:
        causes = dict.fromkeys(observed.services, observed.obstacle) | dict(observed.changes)
        gone = {name: causes[name] for name in observed.services}
    else:
        gone = {name: cause for name, cause in observed.changes.items() if name != "core"}
    return tuple(Away(name, observed.start_s.get(name), cause) for name, cause in gone.items())


def away_words(services: Sequence[Away]) -> str:
    """The text for users: `away meanwhile: api for about 12 s, fe for about 1 s`."""
    if not services:
        return "no service is away meanwhile"
    parts = [
        f"{service.service} for about {max(1, round(service.seconds))} s"
        if service.seconds is not None
        else f"{service.service} for as long as it takes to start"
        for service in services
    ]
    return f"away meanwhile: {', '.join(parts)}"


def builds(wanted: Plan, options: Options) -> bool:
    """Whether the engine's image is `cf`'s own to build; a named one is taken as it is."""
    return options.build is True or (options.build is None and not wanted.image_given)


def _missing(wanted: Plan, observed: Observed) -> list[str]:
    return [model.name for model in wanted.models if model.name not in observed.models]


def _environments(wanted: Plan, observed: Observed) -> Iterator[Operation]:
    causes = {}
    if _missing(wanted, observed):
        causes[observed.converter] = "models are prepared in it, and it is not made yet"
    elif observed.computes:
        causes[observed.converter] = "the models are tried in it, and it is not made yet"
    if wanted.launcher == "process":
        cause = "the engine runs in an environment of its own, which is not made yet"
        causes = {wanted.wheels: cause} | {
            row: cause for row, cause in causes.items() if row != wanted.wheels
        }
    for row, cause in causes.items():
        if row not in observed.environments:
            yield Operation("make environment", row, cause)


def _models(wanted: Plan, observed: Observed) -> Iterator[Operation]:
    plugins = (wanted.detector, wanted.calculator, *wanted.plugins)
    instead = fallbacks.optional(wanted)
    for model in _missing(wanted, observed):
        users = [plugin for plugin in plugins if plugin_table.model_of(plugin) == model]
        needs = f"{' and '.join(users)} {'needs' if len(users) == 1 else 'need'} it"
        cause = f"{needs} and it is not here"
        if model in instead:
            cause += f"; if it cannot be fetched, {fallbacks.words(instead[model])}"
        yield Operation("prepare model", model, cause)


def _compose(wanted: Plan, observed: Observed, options: Options) -> Iterator[Operation]:
    if observed.project != "same":
        cause = "it is not there yet" if observed.project == "absent" else "the plan has changed"
        yield Operation("write project", wanted.project, cause)
    engine = list(_engine_image(wanted, observed, options))
    # All pulls together, which are carried out side by side; a build takes longest.
    yield from (each for each in engine if each.verb == "pull image")
    for service, image in wanted.stack_images.items():
        if options.pull:
            yield Operation("pull image", image, _NEWER)
        elif image not in observed.stack_images:
            yield Operation("pull image", image, f"{service} needs it and it is not here")
    yield from (each for each in engine if each.verb != "pull image")
    if wanted.launcher == "swarm" and wanted.push_to:
        made = any(each.verb in ("build image", "pull image") for each in engine)
        if made or not observed.pushed:
            cause = f"each node pulls it from {wanted.push_to}"
            yield Operation("push image", wanted.image, cause)
    if wanted.owns_database and not observed.volume:
        cause = f"the database keeps its data there, as of {wanted.calculator}"
        yield Operation("create volume", wanted.volume, cause)


_NEWER = "--pull asks its registry for a newer one"


def _engine_image(wanted: Plan, observed: Observed, options: Options) -> Iterator[Operation]:
    if not builds(wanted, options):
        if wanted.image_given and options.pull:
            yield Operation("pull image", wanted.image, _NEWER)
        elif wanted.image_given and not observed.image:
            yield Operation("pull image", wanted.image, "it is not here")
        return
    cause = ""
    if not observed.image:
        cause = "no image was made from these files"
    elif options.build:
        cause = "--build asks for it"
    elif observed.base_moved:
        cause = f"{wanted.base_image} is another image by now than the one it was built upon"
    elif options.pull:
        cause = f"if the registry has a newer {wanted.base_image}"
    if not cause:
        return
    if options.pull:
        yield Operation("pull image", wanted.base_image, _NEWER)
    elif not observed.base:
        cause_of_base = "the engine's image is built upon it and it is not here"
        yield Operation("pull image", wanted.base_image, cause_of_base)
    yield Operation("build image", wanted.image, cause)


def _rolled_out(wanted: Plan, changes: Mapping[str, str]) -> Iterator[Operation]:
    for service, cause in changes.items():
        how = "; each new engine is healthy before an old one ends" if service == "core" else ""
        yield Operation("roll out", service, cause + how)
    if not changes:
        yield Operation("roll out", wanted.instance, "Swarm starts again what is missing")


def _beside(wanted: Plan, changes: Mapping[str, str], engines: int) -> Iterator[Operation]:
    if "core" in changes:
        cause = f"{changes['core']}; the running one goes on"
        yield Operation("start beside", "the new engine", cause)
        yield Operation("try", "a known face", "only a right engine may take over")
        cause = "both have its name until the old one has answered what it has"
        yield Operation("take over", "the new engine", cause)
        for number in range(2, min(engines, wanted.replicas) + 1):
            yield Operation("replace engine", f"engine {number}", changes["core"])
    for number in range(engines + 1, wanted.replicas + 1):
        cause = f"{wanted.replicas} share the requests; it joins them once it knows a face"
        yield Operation("add engine", f"engine {number}", cause)
    # A single new engine ends all others when it takes over.
    if "core" not in changes or wanted.replicas > 1:
        for number in range(engines, wanted.replicas, -1):
            of = "one is" if wanted.replicas == 1 else f"{wanted.replicas} are"
            cause = f"{of} enough; it finishes its requests first"
            yield Operation("end engine", f"engine {number}", cause)
    others = {service: cause for service, cause in changes.items() if service != "core"}
    for service, cause in others.items():
        yield Operation("make anew", service, cause)
    if not others:
        cause = "the other services run on; Compose joins them to their network again where needed"
        yield Operation("reconcile", wanted.instance, cause)
