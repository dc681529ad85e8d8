"""From what is wanted and what was seen to the list of operations, each with its cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from compreface_cli import plugin_table
from compreface_cli.plan.plan import Operation, Plan


@dataclass(frozen=True, slots=True)
class Observed:
    """What `up` has seen of this machine that decides what must be done."""

    models: Set[str] = frozenset()  # names of the plan's models that are prepared and intact
    engine_env: bool = False  # process: the engine's environment is made and proven
    image: bool = False  # compose: the engine's image is here, made from exactly these files
    base_moved: bool = False  # compose: but upon another image than its base's name means by now
    stack_images: Set[str] = frozenset()  # compose: images of the other services that are here
    project: Literal["absent", "same", "differs"] = "absent"  # compose: the rendered folder
    volume: bool = False  # compose: the database volume exists
    running: Literal["no", "same", "other"] = "no"  # the instance, against what is wanted
    instance_of: str = field(default="")  # build that runs, for the texts
    # services that run, and of these: which are made anew, and why
    services: tuple[str, ...] = ("core",)
    changes: Mapping[str, str] = field(default_factory=dict)
    # why the new engine cannot take over from the running one beside it; empty: it can
    obstacle: str = "it is not a stack with the UI"
    start_s: Mapping[str, float] = field(default_factory=dict)  # service -> seconds, where known
    lost: str = ""  # why an instance that should run does not: "core is missing: no container"


@dataclass(frozen=True, slots=True)
class Away:
    """A service that does not answer meanwhile; `seconds` as measured at its last start."""

    service: str
    seconds: float | None
    cause: str


def operations(
    wanted: Plan,
    observed: Observed,
    *,
    rebuild: bool = False,
    build: bool = True,
    pull: bool = False,
) -> tuple[Operation, ...]:
    """What `up` will do, in order; empty when what runs is what is wanted.

    `wanted.launcher` is settled (not auto). `rebuild` is --build, `build=False` is --no-build,
    `pull` asks the registries for newer images of all that are used.
    """
    if observed.running == "same" and not rebuild:
        return ()
    found = [
        Operation("prepare model", model.name, f"{_needs(wanted, model.name)} and it is not here")
        for model in wanted.models
        if model.name not in observed.models
    ]
    if wanted.launcher == "process":
        if not observed.engine_env:
            cause = "the engine runs in an environment of its own, which is not made yet"
            found.append(Operation("make environment", wanted.wheels, cause))
    else:
        found += _compose(wanted, observed, rebuild=rebuild, build=build, pull=pull)
    if observed.running == "other" and not observed.obstacle:
        found += _beside(observed.changes)
    elif observed.running == "other":
        cause = f"what runs ({observed.instance_of or wanted.build}) stays until this one answers"
        found.append(Operation("try", "the engine on a spare port", cause))
        cause = "the new engine has answered; beside the running one it cannot stand: "
        found.append(Operation("replace", wanted.instance, cause + observed.obstacle))
    else:
        found.append(Operation("start", wanted.instance, observed.lost or "it does not run"))
    found.append(Operation("check", "a known face", "ready means that the answer is right"))
    return tuple(found)


def _beside(changes: Mapping[str, str]) -> list[Operation]:
    found = []
    if "core" in changes:
        cause = f"{changes['core']}; the running one goes on"
        found.append(Operation("start beside", "the new engine", cause))
        found.append(Operation("try", "a known face", "only a right engine may take over"))
        cause = "both have its name until the old one has answered what it has"
        found.append(Operation("take over", "the new engine", cause))
    return found + [
        Operation("make anew", service, cause)
        for service, cause in changes.items()
        if service != "core"
    ]


def away(observed: Observed) -> tuple[Away, ...]:
    """Which running services do not answer while the operations are carried out."""
    if observed.running != "other":
        return ()
    if observed.obstacle:
        causes = dict.fromkeys(observed.services, observed.obstacle) | dict(observed.changes)
        gone = {name: causes[name] for name in observed.services}
    else:
        gone = {name: cause for name, cause in observed.changes.items() if name != "core"}
    return tuple(Away(name, observed.start_s.get(name), cause) for name, cause in gone.items())


def away_words(found: Sequence[Away]) -> str:
    """For people: `away meanwhile: api for about 12 s, fe for about 1 s`."""
    if not found:
        return "no service is away meanwhile"
    parts = [
        f"{one.service} for about {max(1, round(one.seconds))} s"
        if one.seconds is not None
        else f"{one.service} for as long as it takes to start"
        for one in found
    ]
    return f"away meanwhile: {', '.join(parts)}"


def _needs(wanted: Plan, model: str) -> str:
    plugins = (wanted.detector, wanted.calculator, *wanted.plugins)
    named = [plugin for plugin in plugins if plugin_table.model_of(plugin) == model]
    return f"{' and '.join(named)} {'needs' if len(named) == 1 else 'need'} it"


def _compose(
    wanted: Plan, observed: Observed, *, rebuild: bool, build: bool, pull: bool
) -> list[Operation]:
    found: list[Operation] = []
    if observed.project != "same":
        cause = "it is not there yet" if observed.project == "absent" else "the plan has changed"
        found.append(Operation("write project", wanted.project, cause))
    newer = "--pull asks its registry for a newer one"
    builds = build and (rebuild or not wanted.image_given)
    if pull and (builds or wanted.image_given):
        found.append(Operation("pull image", wanted.base_image if builds else wanted.image, newer))
    elif not builds and not observed.image:
        found.append(Operation("pull image", wanted.image, "it is not here"))
    if builds and (rebuild or observed.base_moved or not observed.image):
        cause = "--build asks for it"
        if not observed.image:
            cause = "no image was made from these files"
        elif observed.base_moved:
            cause = f"{wanted.base_image} is another image by now than the one it was built upon"
        found.append(Operation("build image", wanted.image, cause))
    for service, image in wanted.stack_images.items():
        if pull:
            found.append(Operation("pull image", image, newer))
        elif image not in observed.stack_images:
            found.append(Operation("pull image", image, f"{service} needs it and it is not here"))
    if wanted.services == "full" and not observed.volume:
        cause = f"the database keeps its data there, as of {wanted.calculator}"
        found.append(Operation("create volume", wanted.volume, cause))
    return found
