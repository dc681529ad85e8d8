"""What pip writes when it fails to make the engine's environment."""

from __future__ import annotations

from compreface_cli.causes.cause import Cause
from compreface_cli.causes.docker import PACKAGE_HASH
from compreface_cli.errors import CfError, FetchError
from compreface_cli.topics import Topic

ENVIRONMENT_DISK = Topic(
    "engine-environment-disk",
    means="The disk became full while the engine's environment was made.",
    why="It takes about 500 MB. Nothing of it is kept.",
    see="`df -h`.",
    ways=(
        "`cf prune` removes unused environments and models.",
        "Set XDG_DATA_HOME to a folder on a larger disk.",
    ),
)


CAUSES: tuple[Cause, ...] = (
    Cause(
        r"No space left",
        CfError,
        "the disk is full: the engine's environment needs about 500 MB",
        topic=ENVIRONMENT_DISK,
    ),
    Cause(
        r"DO NOT MATCH THE HASHES",
        FetchError,
        "a package has another hash than the one this cf pins; nothing was kept",
        "A proxy or a mirror may change files; try again, or use another package index.",
        topic=PACKAGE_HASH,
    ),
)
"""The first that matches counts."""
