"""Why a host cannot be reached, in words; each host is tried once in a run."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import TypeAlias

from compreface_cli.errors import CfError
from compreface_cli.runtimes import joined

Unreached: TypeAlias = "dict[str, str]"  # HOST[:PORT] -> why no connection to it was made

NETWORK = (
    "Check the network of this machine, behind a proxy also HTTPS_PROXY, then run the command "
    "again."
)
_NUMBER = re.compile(r"^\[Errno -?\d+\] ")


def words(unreached: Mapping[str, str]) -> str:
    """`a.example and b.example cannot be reached: the name does not resolve`."""
    reasons = dict.fromkeys(unreached.values())
    return f"{joined(unreached, 'and')} cannot be reached: {joined(reasons, 'and')}"


def brief(error: CfError) -> str:
    """The message of the error; where hosts out of reach are all there is, these alone."""
    unreached = error.details.get("unreached")
    return words(unreached) if unreached else error.message


def reason(error: BaseException, connect_s: float) -> str:
    """Why the connection failed; `connect_s` is the time that it was given."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "the name does not resolve"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(cause, TimeoutError):
            return f"no answer for {connect_s:g} s"
        cause = cause.__cause__ or cause.__context__
    return _NUMBER.sub("", str(error)) or type(error).__name__
