"""The database volume: ours, of this calculator, and mounted by nobody else."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks import database
from compreface_cli.checks.base import CONFLICT, DATA, Finding, OwnedResources, fail, ok, whose
from compreface_cli.docker.labels import LABEL_CALCULATOR
from compreface_cli.facts import Facts
from compreface_cli.facts.database import DatabaseFacts
from compreface_cli.plan.plan import Plan

NAME = "volume"


def in_doubt(plan: Plan, facts: Facts, own: OwnedResources) -> bool:
    """Whether only a look into the volume tells if this calculator may work on it.

    Its label names the calculator it was made with and cannot be changed; the record of the
    instance knows better, and the database best of all.
    """
    docker = facts.docker
    if plan.launcher == "process" or plan.services != "full" or docker is None:
        return False
    volume = next((item for item in docker.volumes if item.name == plan.volume), None)
    if volume is None or volume.project != plan.project:
        return False
    made_with = volume.labels.get(LABEL_CALCULATOR)
    return made_with is not None and (own.calculator or made_with) != plan.calculator


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
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
    elif in_doubt(plan, facts, own):
        known = own.calculator or made_with
        found = _another_calculator(volume.name, known, plan.calculator, facts.database)
        if found is not None:
            clean = False
            yield found
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
        yield ok(NAME, f"the volume {volume.name} is ours, and {plan.calculator} may work on it")


def _another_calculator(
    volume: str, known: str, wanted: str, seen: DatabaseFacts | None
) -> Finding | None:
    """The database decides where it can be read, else what is known of the volume."""
    takes = None if seen is None else database.takes(seen, wanted)
    if seen is not None and takes is not None:
        # Of two calculators in one database the known one is this instance's.
        if takes and not database.foreign(seen, wanted):
            return None
        return database.refused(volume, seen, wanted)
    unread = f" (its database cannot be read: {seen.error})" if seen and seen.error else ""
    return fail(
        NAME,
        DATA,
        f"the volume {volume} holds embeddings of {known}{unread}; "
        f"this build computes those of {wanted}, which do not compare with them",
        "Start it as another instance (--instance NAME), or here a build with the calculator "
        f"{known}. Nothing in the volume was touched.",
    )
