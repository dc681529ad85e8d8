"""Gathers the state that decides the operations of `cf up`: of disk, Docker and the instance."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compreface_cli import __version__
from compreface_cli.config import paths
from compreface_cli.deploy import changes, ports, project_folder, running, shares, takeover
from compreface_cli.deploy.preflight import Preflight
from compreface_cli.docker.labels import LABEL_BASE, LABEL_RENDER
from compreface_cli.engine import check, known_answer, venv
from compreface_cli.errors import CfError, FetchError
from compreface_cli.instance import pushes
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, Endpoint, Kind, ServiceState
from compreface_cli.plan.operations import Observed, Options, builds
from compreface_cli.plan.plan import Plan, with_launcher
from compreface_cli.project import writer
from compreface_cli.project.targets import TARGETS
from compreface_cli.project.targets import compose as target

if TYPE_CHECKING:
    from compreface_cli.docker.image import Image

_IF_NEWER = "if its registry has a newer image"


@dataclass(frozen=True, slots=True)
class Unchanged:
    """An instance that is just what is wanted."""

    plan: Plan
    deployment: Deployment
    services: tuple[ServiceState, ...]
    proof: known_answer.Proof


def digest(plan: Plan) -> str:
    """Over all that decides what runs: the plan, its models, this cf, the engine's wheel."""
    from compreface_cli.models import store

    document = {**plan.as_dict(), "api_keys": ["in a file", plan.api_keys]}
    # These describe how the plan came to be, and nothing that runs.
    aside = ("origins", "fallbacks", "replaced", "licence", "accept_licence")
    document |= dict.fromkeys(aside)
    engine = venv.inputs(plan.wheels).key()
    if plan.tls_cert:  # the files may be renewed under the same names
        document["tls"] = [target.hash_of(path) for path in (plan.tls_cert, plan.tls_key)]
    if plan.services == "full" and not plan.owns_database:
        # Its password may have changed on the server, and the authority under the same name.
        password = plan.secrets.get("postgres_password", "")
        document["elsewhere"] = [password, target.hash_of(plan.database_root_cert)]
    weights = [store.fingerprint(model) for model in plan.models]
    text = json.dumps([document, __version__, engine, weights], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def wanted_as(plan: Plan, old: Record, options: Options) -> Plan | None:
    """The plan as the instance of the record runs it; None where it asks for something else."""
    known = running.deployment(old)
    composed = known.launcher != "process"
    if old.phase != "running" or (composed and (options.build or options.pull)):
        return None
    same_launcher = plan.launcher in ("auto", known.launcher)
    wanted = with_launcher(plan, known.launcher) if same_launcher else plan
    wanted = shares.settled(ports.settled(wanted, old))
    return wanted if wanted.launcher != "auto" and digest(wanted) == old.digest else None


def unchanged(
    plan: Plan, old: Record, options: Options, *, restored: bool = False
) -> Unchanged | None:
    """The running instance if it matches the plan and answers correctly, else None.

    `restored`: it was just started, so wait until it is ready, unless a part of it did not start.
    """
    wanted = wanted_as(plan, old, options)
    if wanted is not None and restored:
        known = running.deployment(old)
        services = running.launcher(known.launcher).services(known)
        restored = all(running.alive([service]) for service in services)
    if wanted is None or not (restored or running.health(old, busy=False).answers):
        return None
    known = running.deployment(old)
    composed = known.launcher != "process"
    if composed and takes_another_image(wanted, options, known.data["image"]):
        return None
    try:
        answer = known_answer.KnownAnswer.from_dict(old.answer)
        if restored:
            proof = running.prove(known, answer, running.TIMEOUT_S[known.launcher])
        else:
            proof = known_answer.check(known.engine, answer, time.monotonic() + 10.0)
    except CfError:
        return None  # it answers incorrectly: the rest of `up` replaces it
    return Unchanged(wanted, known, running.launcher(known.launcher).services(known), proof)


def takes_another_image(plan: Plan, options: Options, runs: str) -> bool:
    """Whether `up` would start another image than the running one, whose id is `runs`.

    The name may refer to another image now, or the image must be rebuilt: on a newer base, or from
    other files, as after an upgrade of `cf`.
    """
    from compreface_cli.docker import image as images

    local = images.find(plan.image)
    if local is None:
        return False
    if local.id != runs:
        return True
    if not builds(plan, options):
        return False
    return images.upon_another(local, plan.base_image) or _of_other_files(plan, local)


def _of_other_files(plan: Plan, local: Image) -> bool:
    from compreface_cli.docker import image as images

    try:
        rendered = target.render(plan, model_folders(plan))
    except FetchError:
        return False  # without its prepared models, no image can be built here
    return local.labels.get(LABEL_RENDER) != images.fingerprint_of(rendered.hashes())


def observe(
    look: Preflight, old: Record | None, options: Options, *, restored: bool = False
) -> Observed:
    """The state that decides the operations, from the facts of `look`, the disk and Docker.

    Raises FetchError for a model's file on this machine that cannot be used, UsageError for an
    accepted hash of another model. `restored`: the instance of the record `old` will run again by
    then, since an interrupted run is repaired first.
    """
    plan = look.plan
    ready = _ready_models(plan, options)
    missing = any(model.name not in ready for model in plan.models)
    row = converter_row(plan)
    computes = not missing and _computes(plan)
    rows = {plan.wheels} if plan.launcher == "process" else set()
    rows |= {row} if missing or computes else set()
    home = paths.engine_environments_dir()
    seen = Observed(
        models=ready,
        environments={each for each in rows if venv.find(home, venv.inputs(each)) is not None},
        converter=row,
        computes=computes,
        start_s=old.start_s if old else {},
    )
    if plan.in_containers:
        seen = _of_compose(look, seen, options, missing=missing, restored=restored)
    return _of_running(look, old, seen, options, restored=restored)


def converter_row(plan: Plan) -> str:
    """The row of the environment that prepares models: the engine's own if it can do so."""
    return plan.wheels if plan.launcher == "process" and venv.converts(plan.wheels) else "cpu"


def model_folders(plan: Plan) -> dict[str, Path]:
    """The folders of the plan's prepared models, by name."""
    return {model.name: paths.models_dir() / model.name for model in plan.models}


def _ready_models(plan: Plan, options: Options) -> frozenset[str]:
    if not plan.models and not options.accept_hash:
        return frozenset()
    from compreface_cli.models import store

    return store.foresee(plan.models, options.accept_hash)


def _computes(plan: Plan) -> bool:
    """Whether the engine's Python must run before a start, although all models are prepared."""
    if plan.image_alone:
        return False  # the image's label has the answer
    unknown = known_answer.stored(plan, model_folders(plan)) is None
    return (unknown and not check.answer_is_kept(plan)) or check.models_are_due(plan)


def _of_compose(
    look: Preflight, seen: Observed, options: Options, *, missing: bool, restored: bool
) -> Observed:
    from compreface_cli.docker import image as images

    plan, docker = look.plan, look.facts.docker
    if docker is None:
        return seen
    folder = project_folder.before(paths.project_dir(plan.instance), restored=restored)
    here, base = docker.image(plan.image), docker.image(plan.base_image)
    project: Literal["absent", "same", "differs"]
    if missing:  # its files are known once the models are prepared
        project = "differs" if (folder / writer.MANIFEST).exists() else "absent"
        made_from = None
    else:
        rendered = TARGETS[plan.launcher].render()(plan, model_folders(plan))
        project = writer.state(rendered, folder)
        made_from = images.fingerprint_of(rendered.hashes())
    image = here is not None
    if here is not None and builds(plan, options):
        image = made_from is not None and here.labels.get(LABEL_RENDER) == made_from
    return replace(
        seen,
        project=project,
        image=image,
        base=base is not None,
        base_moved=here is not None and base is not None and here.labels.get(LABEL_BASE) != base.id,
        stack_images={name for name in plan.stack_images.values() if docker.image(name)},
        volume=any(volume.name == plan.volume for volume in docker.volumes),
        pushed=here is not None and bool(pushes.reference(here.id, plan.push_to)),
    )


def _of_running(
    look: Preflight, old: Record | None, seen: Observed, options: Options, *, restored: bool
) -> Observed:
    """Adds the running services, and those that the operations change."""
    if old is None or not old.deployment:
        return seen
    plan, known = look.plan, running.deployment(old)
    services = running.launcher(known.launcher).services(known)
    if not restored and not running.alive(services):
        lost = services[0].words if old.phase == "running" else ""
        return replace(seen, lost=lost)
    names = tuple(service.name for service in services)
    seen = replace(seen, runs=True, instance_of=old.build, services=names)
    after = replace(
        known,
        launcher=settled_kind(plan),
        ui=Endpoint(plan.bind, int(plan.port)) if plan.services == "full" else None,
    )
    if plan.launcher == known.launcher == "swarm":
        return replace(seen, obstacle="", changes=_of_stack(plan, known, seen, options))
    if plan.launcher != "compose" or known.launcher != "compose":
        return replace(seen, obstacle=takeover.obstacle(known, after))
    rendered = str(target.render(plan, with_models=False).files[target.COMPOSE_FILE])
    obstacle = takeover.obstacle(known, after, rendered=rendered)
    changed = dict(changes.of(known, rendered=rendered, beside=not obstacle))
    changed = _with_images(plan, changed, seen, options)
    from compreface_cli.launchers import compose

    engines = sum(map(len, compose.ComposeLauncher().engines(known)))
    if "api" not in changed and known.data.get("calculator") != compose.remembered(plan):
        changed["api"] = "it caches the coefficients of the old engine"
    return replace(
        seen, services=tuple(changed), changes=changed, obstacle=obstacle, engines=max(1, engines)
    )


def settled_kind(plan: Plan) -> Kind:
    """The launcher of a settled plan."""
    assert plan.launcher != "auto"  # noqa: S101 - settled before
    return plan.launcher


def _of_stack(plan: Plan, known: Deployment, seen: Observed, options: Options) -> Mapping[str, str]:
    """The services of a running stack that the plan changes, and why."""
    from compreface_cli.launchers.compose import remembered
    from compreface_cli.launchers.swarm import SwarmLauncher
    from compreface_cli.project.targets import swarm

    rendered = str(swarm.render(plan, with_models=False).files[swarm.STACK_FILE])
    changed = dict(SwarmLauncher().changes(known, rendered=rendered))
    changed = _with_images(plan, changed, seen, options)
    if "core" not in changed and known.data.get("tag") != plan.image:
        changed["core"] = "its image has changed"
    if "api" not in changed and known.data.get("calculator") != remembered(plan):
        changed["api"] = "it caches the coefficients of the old engine"
    return changed


def _with_images(
    plan: Plan, changed: Mapping[str, str], seen: Observed, options: Options
) -> dict[str, str]:
    """The changes, with those whose image is rebuilt or pulled again under the same name."""
    of_images: dict[str, str] = {}
    if builds(plan, options):
        if options.build or seen.base_moved or not seen.image:
            of_images["core"] = "its image is rebuilt"
        elif options.pull:
            of_images["core"] = "if its base has a newer image"
    elif plan.image_given and options.pull:
        of_images["core"] = _IF_NEWER
    if options.pull:
        from compreface_cli.docker import containers

        of_images |= {containers.short(name): _IF_NEWER for name in plan.stack_images}
    return {**changed, **{name: why for name, why in of_images.items() if name not in changed}}
