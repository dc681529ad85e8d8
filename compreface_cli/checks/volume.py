"""Database volume: this instance's or named for it, used by no other container, of its calculator.

A volume of the instance's own was created by cf; one with existing data is named in the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from compreface_cli.builds.fitting import fitting
from compreface_cli.checks import database
from compreface_cli.checks.base import (
    CONFIGURATION,
    CONFLICT,
    DATA,
    Finding,
    OwnedResources,
    described,
    fail,
    ok,
    warn,
)
from compreface_cli.docker.labels import LABEL_CALCULATOR
from compreface_cli.facts import Facts
from compreface_cli.facts.database import DatabaseFacts
from compreface_cli.facts.docker import DockerFacts, Labelled
from compreface_cli.plan.data import Data
from compreface_cli.plan.plan import Plan
from compreface_cli.plugin_table import same_calculator

NAME = "volume"


def in_doubt(plan: Plan, facts: Facts, own: OwnedResources) -> bool:
    """Whether the database must be read to know if the plan can run on it.

    The volume's label names the calculator that it was created for and cannot be changed; the
    record of the instance is more recent, and the database itself decides. Existing data is always
    read: other programs may have worked on it since.
    """
    docker = facts.docker
    if plan.launcher == "process" or plan.services != "full" or docker is None:
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
    if plan.launcher == "process" or plan.services != "full":
        return
    if docker is None or not docker.reachable:
        return
    volume = _volume(plan, docker)
    users = list(_users(plan, docker, own))
    if plan.data is not None:
        findings = list(_existing(plan, plan.data, volume, facts, in_use=bool(users)))
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
        yield fail(NAME, CONFLICT, f"the volume {volume.name} already exists: {owner}", rename)
    elif in_doubt(plan, facts, own):
        known = own.calculator or made_with
        if finding := _another_version(plan, facts.database):
            yield finding
        elif not same_calculator(known, plan.calculator):
            yield from _another_calculator(plan, known, facts)


def _existing(
    plan: Plan, data: Data, volume: Labelled | None, facts: Facts, *, in_use: bool
) -> Iterator[Finding]:
    """The findings about a volume with existing data, by what its database holds."""
    seen = facts.database
    if volume is None:
        yield fail(
            NAME,
            CONFIGURATION,
            f"the volume {data.volume}, on whose data '{plan.instance}' runs, does not exist on "
            "this Docker engine",
            "`cf data list` shows all face data on this machine.",
        )
        return
    if seen is None:
        if not in_use:
            yield warn(
                NAME,
                f"what the volume {data.volume} holds was not checked: its PostgreSQL image "
                f"{plan.stack['postgres_image']} is not available locally",
            )
        return
    if finding := _another_version(plan, seen):
        yield finding
        return
    if seen.login is None and not seen.written_by and not seen.error:
        yield fail(
            NAME,
            CONFLICT,
            f"the volume {data.volume} has no database of CompreFace",
            "`cf data list` shows all face data on this machine; without --data the instance gets "
            "a volume of its own.",
        )
        return
    if seen.login is None:
        password = plan.secrets.get("postgres_password", "")
        error = database.login_at_rest(seen, plan.stack["postgres_user"], password)
        seen = replace(seen, login=error)
    if finding := database.login(data.volume, seen):
        yield finding
    elif seen.old:
        yield fail(
            NAME,
            DATA,
            f"the volume {data.volume} holds data of a CompreFace before 0.6, whose embeddings are "
            "stored in another form",
            "Start CompreFace 1.2.0 on it once, which converts them, then run this command again.",
        )
    elif seen.collections is None:
        yield fail(
            NAME,
            CONFLICT,
            f"the volume {data.volume} cannot be read, so that its calculator is not known: "
            f"{seen.error or 'no answer'}",
            "Name its database, if it is another: CF_POSTGRES_DB=... CF_POSTGRES_USER=...",
        )
    elif database.foreign(seen, plan.calculator):
        yield database.refused(data.volume, seen, plan.calculator, _ways(plan, facts))


def _another_version(plan: Plan, seen: DatabaseFacts | None) -> Finding | None:
    """The refusal of a PostgreSQL that cannot read the volume's files."""
    if seen is None or not seen.written_by or not seen.server or seen.written_by == seen.server:
        return None
    image = plan.stack["postgres_image"]
    return fail(
        NAME,
        DATA,
        f"the volume {plan.volume} was written by PostgreSQL {seen.written_by}, and the image "
        f"{image} has PostgreSQL {seen.server}, which cannot read it",
        f"Two ways on:\n- an image of PostgreSQL {seen.written_by}: CF_POSTGRES_IMAGE=IMAGE\n"
        f"- a backup with that image, restored into a new instance: cf data backup "
        f"{plan.data.instance or plan.volume if plan.data else plan.instance}, then cf data "
        "restore FILE --instance NEW",
    )


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
            )


def _another_calculator(plan: Plan, known: str, facts: Facts) -> Iterator[Finding]:
    """Why the plan is refused: by the database if it can be read, else by `known`, the old one."""
    seen = facts.database
    takes = None if seen is None else database.takes(seen, plan.calculator)
    if seen is not None and takes is not None:
        # When the database has faces of two calculators, the known one is this instance's.
        if not takes or database.foreign(seen, plan.calculator):
            yield database.refused(plan.volume, seen, plan.calculator, _ways(plan, facts))
        return
    unread = f" (its database cannot be read: {seen.error})" if seen and seen.error else ""
    yield fail(
        NAME,
        DATA,
        f"the volume {plan.volume} holds embeddings of {known}{unread}; "
        f"this build computes those of {plan.calculator}, which cannot be compared with them",
        database.ways_on(known, _ways(plan, facts, known)),
    )


def _ways(plan: Plan, facts: Facts, calculator: str = "") -> database.Ways:
    """The ways on from stored embeddings of `calculator`, by default those of the database."""
    seen = facts.database
    stored = [calculator] if calculator else []
    if not calculator and seen is not None:
        stored = sorted({each.calculator for each in database.foreign(seen, plan.calculator)})
    builds = fitting(stored[0], facts.calculators) if stored else []
    data = plan.data
    return database.Ways(
        builds,
        instance=data.instance if data else plan.instance,
        wanted=plan.build,
        data=(data.instance or data.volume) if data else "",
    )
