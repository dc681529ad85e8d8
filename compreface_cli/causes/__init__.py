"""The likely cause of a failure: what programs write and how they end, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from compreface_cli.causes import docker, pip, registry
from compreface_cli.causes.cause import Cause

Writer: TypeAlias = Literal["docker", "pip", "registry"]

_CAUSES: Mapping[Writer, Sequence[Cause]] = {
    "docker": docker.CAUSES,
    "pip": pip.CAUSES,
    "registry": registry.CAUSES,
}
_EXIT_CODES = {
    126: "its program may not be executed",
    127: "its program does not exist in the image",
    132: "an illegal instruction: this processor lacks one that the program needs",
    137: "killed, mostly for want of memory",
    139: "a segmentation fault",
    143: "stopped by SIGTERM",
}


def of(writer: Writer, text: str) -> Cause | None:
    """The likely cause of what that program wrote; None when it is not known."""
    for cause in _CAUSES[writer]:
        if re.search(cause.pattern, text, re.IGNORECASE | re.MULTILINE):
            return cause
    return None


def exit_code(code: int) -> str:
    """How a container ended, in words: `exit code 139: a segmentation fault`."""
    meaning = _EXIT_CODES.get(code)
    return f"exit code {code}" + (f": {meaning}" if meaning else "")
