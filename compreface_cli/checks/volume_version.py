"""Database volume: made by the major version of PostgreSQL that the image has."""

from __future__ import annotations

from compreface_cli.checks.base import CONFLICT, Finding, fail
from compreface_cli.topics import Topic

NAME = "volume"

OTHER = Topic(
    "volume-other-postgres",
    means="The files of the database were made by another major version of PostgreSQL than its "
    "image has.",
    why="PostgreSQL reads only files of its own major version, and ends. Nothing is lost.",
    see="`docker run --rm -v VOLUME:/d alpine cat /d/PG_VERSION`, and `postgres --version` "
    "in the image.",
    ways=(
        "Run an image of the version that made the volume: CF_POSTGRES_VERSION or "
        "CF_POSTGRES_IMAGE.",
        "Back up with that version, and restore into a new instance of the other: `cf data "
        "backup`, `cf data restore`.",
    ),
)


def judge(volume: str, made_by: str, image: str, image_has: str) -> Finding | None:
    """The fault of a volume made by PostgreSQL `made_by` for an image that has `image_has`.

    Both are major versions as in PG_VERSION ("11", "9.6"); None if they agree or one is not known.
    """
    if not made_by or not image_has or made_by == image_has:
        return None
    return fail(
        NAME,
        CONFLICT,
        f"the volume {volume} was made by PostgreSQL {made_by}, and the image {image} has "
        f"{image_has}, which cannot read it",
        f"Name an image with PostgreSQL {made_by}, or back up with it and restore into a new "
        "instance. Nothing in the volume was changed.",
        topic=OTHER,
    )
