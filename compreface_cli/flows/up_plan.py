"""The dry run of `cf up`: what was seen of this machine, and the operations that follow from it."""

from __future__ import annotations

from typing import Literal

from compreface_cli import engine_env, paths
from compreface_cli.flows import running
from compreface_cli.flows.preflight import Preflight
from compreface_cli.instances import Record
from compreface_cli.operations import Observed, operations
from compreface_cli.plan import Operation


def steps(look: Preflight, old: Record | None, *, build: bool | None) -> tuple[Operation, ...]:
    """What `up` will do for the settled plan of `look`; `old` is the record, if there is one."""
    return operations(
        look.plan, observe(look, old), rebuild=build is True, build=build is not False
    )


def observe(look: Preflight, old: Record | None) -> Observed:
    """What decides the operations; asks the disk, and takes Docker's side from `look`."""
    from compreface_cli.models import store

    plan, docker = look.plan, look.facts.docker
    here = {model.name for model in plan.models if store.state(model) == "here"}
    runs: Literal["no", "other"] = "no"
    if old is not None and old.phase == "running":
        known = running.deployment(old)
        if running.alive(running.launcher(known.launcher).services(known)):
            runs = "other"
    environment = False
    if plan.launcher == "process":
        home = paths.data_dir() / "engine-env"
        environment = engine_env.find(home, engine_env.inputs(plan.wheels)) is not None
    folder = paths.project_dir(plan.instance)
    return Observed(
        models=here,
        engine_env=environment,
        image=docker is not None and docker.image(plan.image) is not None,
        stack_images={
            image for image in plan.stack_images.values() if docker and docker.image(image)
        },
        project="differs" if (folder / "compose.yaml").exists() else "absent",
        volume=docker is not None and any(one.name == plan.volume for one in docker.volumes),
        running=runs,
        instance_of=old.build if old else "",
    )
