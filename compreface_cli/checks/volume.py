"""Database volume: this instance's or named for it, used by no other container, of its calculator.

A volume of the instance's own was created by cf; one with existing data is named in the plan.
"""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.checks import database, existing_data
from compreface_cli.checks.base import (
    CONFLICT,
    DATA,
    Finding,
    OwnedResources,
    described,
    fail,
    ok,
)
from compreface_cli.docker.labels import LABEL_CALCULATOR
from compreface_cli.facts import Facts
from compreface_cli.facts.docker import DockerFacts, Labelled
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
    """Whether the database must be read to know if the plan can run on it.

    The volume's label names the calculator that it was created for and cannot be changed; the
    record of the instance is more recent, and the database itself decides. Existing data is always
    read: other programs may have worked on it since.
    """
    docker = facts.docker
    if plan.launcher == "process" or not plan.owns_database or docker is None:
        return False
    volume = _volume(plan, docker)
    if volume is None:
        return False
    if plan.data is not None:
        return True
    made_with = volume.labels.get(LABEL_CALCULATOR)
    if volume.project != plan.project or made_with is None:
        return False
    return not same_calculator(own.calculator or made_with, plan.calculator) or (
        own.postgres_image not in ("", plan.stack.get("postgres_image"))
    )


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    docker = facts.docker
    if plan.launcher == "process" or not plan.owns_database:
        return
    if docker is None or not docker.reachable:
        return
    volume = _volume(plan, docker)
    users = list(_users(plan, docker, own))
    if plan.data is not None:
        findings = list(existing_data.judge(plan, plan.data, volume, facts, in_use=bool(users)))
    elif volume is None:
        return
    else:
        findings = list(_of_instance(plan, volume, facts, own))
    findings += users
    yield from findings
    if not any(finding.level == "fail" for finding in findings):
        whose = "has existing data" if plan.data else "is this instance's"
        yield ok(NAME, f"the volume {plan.volume} {whose} and fits {plan.calculator}")


def _volume(plan: Plan, docker: DockerFacts) -> Labelled | None:
    return next((item for item in docker.volumes if item.name == plan.volume), None)


def _of_instance(
    plan: Plan, volume: Labelled, facts: Facts, own: OwnedResources
) -> Iterator[Finding]:
    """The findings about a volume that has the name of the instance's own."""
    rename = "Choose another instance name with --instance; nothing in the volume was changed."
    made_with = volume.labels.get(LABEL_CALCULATOR)
    if volume.project != plan.project or made_with is None:
        owner = (
            f"it was created for the Compose project {volume.project}, not by cf"
            if volume.project
            else "it was not created by cf"
        )
        rename += f" To run on the data in it: --data {volume.name}"
        yield fail(
            NAME,
            CONFLICT,
            f"the volume {volume.name} already exists: {owner}",
            rename,
            topic=FOREIGN,
        )
    elif in_doubt(plan, facts, own):
        known = own.calculator or made_with
        if finding := existing_data.another_version(plan, facts.database):
            yield finding
        elif not same_calculator(known, plan.calculator):
            yield from _another_calculator(plan, known, facts)


def _users(plan: Plan, docker: DockerFacts, own: OwnedResources) -> Iterator[Finding]:
    """A finding for each container on the volume that is not the instance's."""
    for container in docker.containers:
        if plan.volume in container.volumes and container.active and not own.has(container, plan):
            yield fail(
                NAME,
                CONFLICT,
                f"the volume {plan.volume} is mounted by {described(container)}; "
                "two databases on one volume corrupt it",
                f"Stop that container first: docker stop {container.name}",
                topic=IN_USE,
            )


def _another_calculator(plan: Plan, known: str, facts: Facts) -> Iterator[Finding]:
    """Why the plan is refused: by the database if it can be read, else by `known`, the old one."""
    seen = facts.database
    takes = None if seen is None else database.takes(seen, plan.calculator)
    if seen is not None and takes is not None:
        # When the database has faces of two calculators, the known one is this instance's.
        if not takes or database.foreign(seen, plan.calculator):
            yield database.refused(
                plan.volume, seen, plan.calculator, existing_data.ways(plan, facts)
            )
        return
    unread = f" (its database cannot be read: {seen.error})" if seen and seen.error else ""
    yield fail(
        NAME,
        DATA,
        f"the volume {plan.volume} holds embeddings of {known}{unread}; "
        f"this build computes those of {plan.calculator}, which cannot be compared with them",
        database.ways_on(known, existing_data.ways(plan, facts, known)),
        topic=database.OTHER_CALCULATOR,
    )
