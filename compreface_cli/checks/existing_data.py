"""Existing data: may the plan run on the volume, by what its database holds?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from compreface_cli.builds.fitting import fitting
from compreface_cli.checks import database
from compreface_cli.checks.base import CONFIGURATION, CONFLICT, DATA, Finding, fail, warn
from compreface_cli.facts import Facts
from compreface_cli.facts.database import DatabaseFacts
from compreface_cli.facts.docker import Labelled
from compreface_cli.plan.data import Data
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "volume"

GONE = Topic(
    "volume-gone",
    means="The volume with the data that this instance runs on does not exist.",
    why="A new one would be empty, and would look as if all faces were lost.",
    see="`docker volume ls`, `cf data list`.",
    ways=(
        "Use the Docker engine that has it: `docker context ls`.",
        "Restore a backup into a new instance: `cf data restore FILE --instance NEW`.",
    ),
)

UNCHECKED = Topic(
    "volume-unchecked",
    means="A dry run has not read the database on the volume, since the image of its PostgreSQL is "
    "not on this machine.",
    why="A dry run pulls nothing, and cannot tell whether the build fits the stored embeddings.",
    see="`docker image ls`.",
    ways=("Pull the image first: `docker pull IMAGE`. A real start does so by itself.",),
)

EMPTY = Topic(
    "volume-empty",
    means="There is no database on the volume that was named as existing data.",
    why="The name is probably that of another volume.",
    see="`cf data list` shows each volume with face data, and what it holds.",
    ways=(
        "Name another volume: `cf up BUILD --data VOLUME`.",
        "For a new database, leave out --data.",
    ),
)

UNREAD = Topic(
    "volume-unread",
    means="The database on the volume cannot be read.",
    why="Without knowing its calculator, an engine could mix other embeddings into it.",
    see="The message contains what PostgreSQL says.",
    ways=(
        "Name its database, if it is another: CF_POSTGRES_DB=NAME, CF_POSTGRES_USER=NAME.",
        "Restore a backup into a new instance: `cf data restore FILE --instance NEW`.",
    ),
)

BEFORE_0_6 = Topic(
    "volume-old-schema",
    means="The volume holds the data of a CompreFace before 0.6.",
    why="It stores embeddings in another form, which this `cf` does not read.",
    see="The database has a table `face`.",
    ways=("Start CompreFace 1.2.0 on it once, which converts them.",),
)

VERSION = Topic(
    "volume-postgres-version",
    means="The files on the volume were written by another major version of PostgreSQL than the "
    "image has.",
    why="PostgreSQL does not start on the files of another major version.",
    see="`cf data list` shows the version of each volume.",
    ways=(
        "Use an image of the version that wrote it: CF_POSTGRES_IMAGE=IMAGE.",
        "Move the data to the new version: `cf data backup INSTANCE` with the old image, then "
        "`cf data restore FILE --instance NEW` with the new one.",
    ),
)


def judge(
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
            topic=GONE,
        )
        return
    if seen is None:
        if not in_use:
            yield warn(
                NAME,
                f"what the volume {data.volume} holds was not checked: its PostgreSQL image "
                f"{plan.stack['postgres_image']} is not available locally",
                topic=UNCHECKED,
            )
        return
    if finding := another_version(plan, seen):
        yield finding
        return
    if seen.login is None and not seen.written_by and not seen.error:
        yield fail(
            NAME,
            CONFLICT,
            f"the volume {data.volume} has no database of CompreFace",
            "`cf data list` shows all face data on this machine; without --data the instance gets "
            "a volume of its own.",
            topic=EMPTY,
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
            topic=BEFORE_0_6,
        )
    elif seen.collections is None:
        yield fail(
            NAME,
            CONFLICT,
            f"the volume {data.volume} cannot be read, so that its calculator is not known: "
            f"{seen.error or 'no answer'}",
            "Name its database, if it is another: CF_POSTGRES_DB=... CF_POSTGRES_USER=...",
            topic=UNREAD,
        )
    elif database.foreign(seen, plan.calculator):
        yield database.refused(data.volume, seen, plan.calculator, ways(plan, facts))


def another_version(plan: Plan, seen: DatabaseFacts | None) -> Finding | None:
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
        topic=VERSION,
    )


def ways(plan: Plan, facts: Facts, calculator: str = "") -> database.Ways:
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
