"""The database volume: ours, of this calculator, and mounted by nobody else."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks.base import (
    CONFLICT,
    DATA,
    Finding,
    Own,
    fail,
    ok,
    whose,
)
from compreface_cli.facts import Facts
from compreface_cli.plan import LABEL_CALCULATOR, Plan

NAME = "volume"


def check(plan: Plan, facts: Facts, own: Own) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher == "process" or plan.services != "full":
        return
    if docker is None or not docker.reachable:
        return
    volume = next((item for item in docker.volumes if item.name == plan.volume), None)
    if volume is None:
        return
    clean = True
    another = "Choose another instance name with --instance; nothing in the volume was touched."
    made_with = volume.labels.get(LABEL_CALCULATOR)
    if volume.project != plan.project or made_with is None:
        owner = (
            f"it was created for the Compose project {volume.project}, not by cf"
            if volume.project
            else "it was not created by cf"
        )
        clean = False
        yield fail(NAME, CONFLICT, f"the volume {volume.name} already exists and {owner}", another)
    elif made_with != plan.calculator:
        clean = False
        yield fail(
            NAME,
            DATA,
            f"the volume {volume.name} holds embeddings of {made_with}; "
            f"this build computes those of {plan.calculator}, which do not compare with them",
            f"{another} To keep the data, start a build with the calculator {made_with}.",
        )
    for container in docker.containers:
        if volume.name in container.volumes and container.active and not own.has(container, plan):
            clean = False
            yield fail(
                NAME,
                CONFLICT,
                f"the volume {volume.name} is mounted by {whose(container)}; "
                "two databases on one volume destroy it",
                f"Stop that container first: docker stop {container.name}",
            )
    if clean:
        yield ok(NAME, f"the volume {volume.name} is ours and was made with {plan.calculator}")
