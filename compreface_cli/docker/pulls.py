"""Pulls several images side by side."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING

from compreface_cli.docker.image import Image, Waiting, obtain
from compreface_cli.errors import CfError

if TYPE_CHECKING:
    from compreface_cli.cleanup import Report

# Docker itself downloads three layers at once, so more images would only wait for each other.
AT_ONCE = 4


def obtain_all(
    names: Sequence[str], *, report: Report, waiting: Waiting, pull: bool = False
) -> list[Image]:
    """The local image of each name; as `obtain`, at most AT_ONCE at the same time.

    Raises one error for all images that cannot be pulled, once the others are here. A signal
    ends all pulls.
    """
    interrupted = threading.Event()

    def ended() -> CfError | None:
        return CfError("") if interrupted.is_set() else None  # the interruption is reported

    def one(name: str) -> Image:
        return obtain(name, report=report, waiting=waiting, pull=pull, watch=ended)

    with ThreadPoolExecutor(min(AT_ONCE, len(names)), "pull") as pool:
        running = [pool.submit(one, name) for name in names]
        try:
            wait_for(running)
        except BaseException:
            interrupted.set()
            pool.shutdown(cancel_futures=True)
            raise
    failed = [future.exception() for future in running]
    errors = [error for error in failed if error is not None]
    if errors:
        raise _together(errors)
    return [future.result() for future in running]


def _together(errors: Sequence[BaseException]) -> BaseException:
    """One error for all of them, of the first one's kind."""
    first = errors[0]
    others = [error for error in errors[1:] if isinstance(error, CfError)]
    if not isinstance(first, CfError) or not others:
        return first
    messages = dict.fromkeys(error.message for error in (first, *others))
    hints = dict.fromkeys(error.hint for error in (first, *others) if error.hint)
    details = {"errors": [error.as_dict() for error in (first, *others)]}
    return type(first)("\n".join(messages), hint="\n".join(hints) or None, details=details)
