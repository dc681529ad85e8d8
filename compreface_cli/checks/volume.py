"""Database volume: created by cf, for this calculator, and mounted by no other container."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks import database
from compreface_cli.checks.base import CONFLICT, DATA, Finding, OwnedResources, described, fail, ok
from compreface_cli.docker.labels import LABEL_CALCULATOR
from compreface_cli.facts import Facts
from compreface_cli.facts.database import DatabaseFacts
from compreface_cli.plan.plan import Plan
from compreface_cli.plugin_table import same_calculator
from compreface_cli.topics import Topic

NAME = "volume"

FOREIGN = Topic(
    "volume-foreign",
    means="A volume of the name that this instance needs exists, and `cf` did not create it "
    "for this instance.",
    why="It may hold data of another install, which this one would change.",
    see="`docker volume inspect NAME` shows its labels and its age, `cf data list` what is in it.",
    ways=(
        "Choose another name: `cf up --instance NAME`.",
        "If it is an install of upstream, `cf adopt` makes it an instance with its data.",
    ),
)

IN_USE = Topic(
    "volume-in-use",
    means="A running container outside of this instance mounts the volume of the database.",
    why="Two PostgreSQL servers on one volume corrupt it, and rows are lost without any message.",
    see="`docker ps -a --filter volume=NAME`.",
    ways=(
        "Stop that container first: `docker stop NAME`.",
        "Choose another name: `cf up --instance NAME`.",
    ),
)


def in_doubt(plan: Plan, facts: Facts, own: OwnedResources) -> bool:
    """Whether the database must be read to know if its embeddings are of this calculator.

    The volume's label names the calculator that it was created for and cannot be changed; the
    record of the instance is more recent, and the database itself decides.
    """
    docker = facts.docker
    if plan.launcher == "process" or plan.services != "full" or docker is None:
        return False
    volume = next((item for item in docker.volumes if item.name == plan.volume), None)
    if volume is None or volume.project != plan.project:
        return False
    made_with = volume.labels.get(LABEL_CALCULATOR)
    return made_with is not None and not same_calculator(
        own.calculator or made_with, plan.calculator
    )


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
    rename = "Choose another instance name with --instance; nothing in the volume was changed."
    made_with = volume.labels.get(LABEL_CALCULATOR)
    if volume.project != plan.project or made_with is None:
        owner = (
            f"it was created for the Compose project {volume.project}, not by cf"
            if volume.project
            else "it was not created by cf"
        )
        clean = False
        yield fail(
            NAME,
            CONFLICT,
            f"the volume {volume.name} already exists: {owner}",
            rename,
            topic=FOREIGN,
        )
    elif in_doubt(plan, facts, own):
        known = own.calculator or made_with
        refusal = _another_calculator(volume.name, known, plan.calculator, facts.database)
        if refusal is not None:
            clean = False
            yield refusal
    for container in docker.containers:
        if volume.name in container.volumes and container.active and not own.has(container, plan):
            clean = False
            yield fail(
                NAME,
                CONFLICT,
                f"the volume {volume.name} is mounted by {described(container)}; "
                "two databases on one volume corrupt it",
                f"Stop that container first: docker stop {container.name}",
                topic=IN_USE,
            )
    if clean:
        yield ok(NAME, f"the volume {volume.name} is this instance's and fits {plan.calculator}")


def _another_calculator(
    volume: str, known: str, wanted: str, facts: DatabaseFacts | None
) -> Finding | None:
    """Why `wanted` is refused: by the database if it can be read, else by `known`, the old one."""
    takes = None if facts is None else database.takes(facts, wanted)
    if facts is not None and takes is not None:
        # When the database has faces of two calculators, the known one is this instance's.
        if takes and not database.foreign(facts, wanted):
            return None
        return database.refused(volume, facts, wanted)
    unread = f" (its database cannot be read: {facts.error})" if facts and facts.error else ""
    return fail(
        NAME,
        DATA,
        f"the volume {volume} holds embeddings of {known}{unread}; "
        f"this build computes those of {wanted}, which cannot be compared with them",
        "Start it as another instance (--instance NAME), or start a build with the calculator "
        f"{known}. Nothing in the volume was changed.",
        topic=database.OTHER_CALCULATOR,
    )
