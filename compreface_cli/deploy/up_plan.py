"""The dry run of `cf up`: what was seen of this machine, and the operations that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from compreface_cli.config import paths
from compreface_cli.deploy import changes, running, takeover
from compreface_cli.deploy.preflight import Preflight
from compreface_cli.docker.labels import LABEL_BASE
from compreface_cli.engine import venv
from compreface_cli.facts.docker import DockerFacts
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, Endpoint, ServiceState
from compreface_cli.plan.operations import Observed, operations
from compreface_cli.plan.plan import Operation, Plan
from compreface_cli.project import render, writer


def steps(
    look: Preflight, old: Record | None, *, build: bool | None, pull: bool = False
) -> tuple[tuple[Operation, ...], Observed]:
    """What `up` will do for the settled plan of `look`; `old` is the record, if there is one."""
    seen = observe(look, old, build=build)
    how = {"rebuild": build is True, "build": build is not False, "pull": pull}
    return operations(look.plan, seen, **how), seen


def observe(look: Preflight, old: Record | None, *, build: bool | None) -> Observed:
    """What decides the operations; asks the disk and Docker, and takes what `look` has seen."""
    from compreface_cli.models import store

    plan, docker = look.plan, look.facts.docker
    here = {model.name for model in plan.models if store.state(model) == "here"}
    runs: Literal["no", "other"] = "no"
    change, lost = _Change(), ""
    if old is not None and old.phase == "running":
        known = running.deployment(old)
        services = running.launcher(known.launcher).services(known)
        if running.alive(services):
            runs = "other"
            change = _change(plan, known, services, here, build=build)
        else:
            lost = services[0].words
    environment = False
    if plan.launcher == "process":
        home = paths.engine_environments_dir()
        environment = venv.find(home, venv.inputs(plan.wheels)) is not None
    return Observed(
        models=here,
        engine_env=environment,
        image=docker is not None and docker.image(plan.image) is not None,
        base_moved=docker is not None and _base_moved(plan, docker),
        stack_images={
            image for image in plan.stack_images.values() if docker and docker.image(image)
        },
        project=_project(plan, here),
        volume=docker is not None and any(one.name == plan.volume for one in docker.volumes),
        running=runs,
        instance_of=old.build if old else "",
        services=change.services,
        changes=change.changes,
        obstacle=change.obstacle,
        start_s=old.start_s if old else {},
        lost=lost,
    )


def _project(plan: Plan, prepared: Set[str]) -> Literal["absent", "same", "differs"]:
    """The project's folder beside what would be written into it."""
    folder = paths.project_dir(plan.instance)
    if plan.launcher == "process" or not (folder / render.COMPOSE_FILE).exists():
        return "absent"
    if any(model.name not in prepared for model in plan.models):
        return "differs"
    models = {model.name: paths.models_dir() / model.name for model in plan.models}
    return writer.state(render.render(plan, models), folder)


@dataclass(frozen=True, slots=True)
class _Change:
    """What a change of a running instance comes to."""

    services: tuple[str, ...] = ("core",)
    changes: Mapping[str, str] = field(default_factory=dict)
    obstacle: str = ""


def _change(
    plan: Plan,
    known: Deployment,
    services: Sequence[ServiceState],
    prepared: Set[str],
    *,
    build: bool | None,
) -> _Change:
    """What of `known` the start of `plan` makes anew: as Compose says of what would be written."""
    names = tuple(one.name for one in services)
    after = replace(
        known,
        launcher="compose" if plan.launcher == "compose" else "process",
        ui=Endpoint(plan.bind, int(plan.port)) if plan.services == "full" else None,
    )
    if plan.launcher != "compose" or known.launcher != "compose":
        return _Change(names, obstacle=takeover.obstacle(known, after))
    from compreface_cli.launchers import compose

    rendered = str(render.render(plan, with_models=False).files[render.COMPOSE_FILE])
    obstacle = takeover.obstacle(known, after, rendered=rendered)
    found = dict(changes.of(known, rendered=rendered, beside=not obstacle))
    if "core" not in found and build is not False and _to_build(plan, prepared, build):
        found["core"] = "its image is built anew"
    if "api" not in found and known.data.get("calculator") != compose.remembered(plan):
        found["api"] = "it keeps the coefficients of the old engine"
    return _Change(tuple(found), found, obstacle)


def _to_build(plan: Plan, prepared: Set[str], build: bool | None) -> bool:
    """Whether `up` makes the engine's image anew, though its name and settings stay."""
    from compreface_cli.docker import image as images

    if build:
        return True
    if plan.image_given:
        return False
    if any(model.name not in prepared for model in plan.models):
        return True
    models = {model.name: paths.models_dir() / model.name for model in plan.models}
    return not images.made_of(plan.image, render.render(plan, models).hashes(), plan.base_image)


def _base_moved(plan: Plan, docker: DockerFacts) -> bool:
    """Whether the image was built upon another one than its base's name means by now."""
    made, base = docker.image(plan.image), docker.image(plan.base_image)
    return made is not None and base is not None and made.labels.get(LABEL_BASE) != base.id
