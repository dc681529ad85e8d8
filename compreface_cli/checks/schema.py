"""A database's schema: whether a newer admin has changed it than the one that is to start on it."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

from compreface_cli.checks.base import DATA, Finding, fail
from compreface_cli.topics import Topic

NAME = "schema"
NEWER = Topic(
    "schema-newer",
    means="A newer version of CompreFace has changed the database's schema than the one to start.",
    why="Its migrations know no way back. An older admin and api on a newer schema fail, or write "
    "what the newer ones cannot read.",
    see="The table `databasechangelog` lists the change sets.",
    ways=(
        "Start the version that changed it: `cf upgrade INSTANCE --to VERSION`.",
        "Go back with the data: `cf rollback INSTANCE --restore-backup` restores the backup of "
        "before the upgrade and carries over the faces that were added since.",
    ),
)
# Each released version of CompreFace -> its last file of change sets, db.changelog-N.yaml in
# java/admin/src/main/resources/db/changelog/, as the tags of its repository have it.
_LAST_FILE = {
    "0.4.0": (0, 1, 3),
    "0.4.1": (0, 1, 3),
    "0.5.0": (0, 1, 6),
    "0.5.1": (0, 1, 7),
    "0.6.0": (0, 1, 7),
    "0.6.1": (0, 1, 7),
    "1.0.0": (0, 1, 8),
    "1.0.1": (0, 1, 8),
    "1.1.0": (0, 2, 2),
    "1.2.0": (0, 2, 7),
}
_VERSION = re.compile(r"v?(\d+(?:\.\d+)+)")
_SHOWN = 3


def tag(image: str) -> str:
    """The tag of an image's name; "" where it names none."""
    after = image.partition("@")[0].rpartition("/")[2]
    return after.partition(":")[2]


def number(image: str) -> tuple[int, ...] | None:
    """The version that an image's tag states, 1.2.0 as (1, 2, 0); None where it states none."""
    match = _VERSION.fullmatch(tag(image))
    return tuple(int(part) for part in match[1].split(".")) if match else None


def beyond(image: str, changes: Sequence[str], recorded: Set[str] | None) -> list[str] | None:
    """The change sets that the admin of this image does not know; None: nobody knows what it knows.

    `changes`: of the database, each "FILE'S NUMBER ID". `recorded`: those that the database had
    when this image had started on it; None if it never did.
    """
    if recorded is not None:
        return [change for change in changes if change not in recorded]
    version = number(image)
    last = _LAST_FILE.get(".".join(map(str, version))) if version else None
    if last is None:
        return None
    return [change for change in changes if not _until(change, last)]


def _until(change: str, last: tuple[int, ...]) -> bool:
    match = _VERSION.fullmatch(change.partition(" ")[0])
    return match is not None and tuple(int(part) for part in match[1].split(".")) <= last


def judge(
    instance: str, image: str, changes: Sequence[str] | None, recorded: Set[str] | None
) -> Finding | None:
    """The refusal of an admin that is older than the schema of the database."""
    newer = beyond(image, changes or (), recorded)
    if not newer:
        return None
    names = ", ".join(newer[:_SHOWN]) + (", ..." if len(newer) > _SHOWN else "")
    sets = "1 change set" if len(newer) == 1 else f"{len(newer)} change sets"
    return fail(
        NAME,
        DATA,
        f"a newer version of CompreFace has changed the schema of this database: {image} does not "
        f"know {sets} of it ({names})",
        f"Start the version that made them (CF_ADMIN_VERSION=..., or cf upgrade {instance} --to "
        f"VERSION), or go back with the data: cf rollback {instance} --restore-backup",
        topic=NEWER,
    )
