"""A cause of a failure: what a program writes, what it means, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from compreface_cli.errors import CfError
from compreface_cli.topics import Topic


@dataclass(frozen=True, slots=True)
class Cause:
    """What it means when text matches `pattern`; `hint`: what to do, `topic`: for `cf explain`."""

    pattern: str
    error: type[CfError]
    what: str
    hint: str = ""
    topic: Topic = field(kw_only=True)
