"""Downloads a file over HTTP from the first of several sources that delivers it correctly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from compreface_cli.errors import FetchError, UnreachableError
from compreface_cli.models.files import disk_error, locked, make_folder, sha256_of
from compreface_cli.models.transfer import GiveUp, Limits, Progress, Transfer, WrongFile

if TYPE_CHECKING:
    import httpx2

__all__ = ["Limits", "Progress", "fetch", "shown"]


def shown(url: str) -> str:
    """The address without user name, password and query, for messages."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        where = f"{host}:{parts.port}" if parts.port else host
        return urlunsplit((parts.scheme, where, parts.path, "", ""))
    except ValueError:
        return "an address that cannot be read"


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: Sequence[str],
    progress: Progress,
    note: Callable[[str], None],
    place: str | None = None,
    limits: Limits | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Download `target` from the first of `urls` whose file has one of the hashes `sha256`.

    `place` is its path below a mirror, for the hint; by default its name.
    Without hashes any complete file is taken; the caller must have its hash accepted before use.
    Raises FetchError (the failure of each source; UnreachableError if none delivers a wrong file),
    ConflictError (locked by another process).
    """
    limits = limits or Limits()
    make_folder(target.parent)
    with locked(target, note=note):
        if target.exists() and (not sha256 or sha256_of(target) in sha256):
            return target
        failures: list[str] = []
        kind: type[FetchError] = UnreachableError
        deadline = clock() + limits.total_s
        with ExitStack() as stack:
            client = stack.enter_context(_client(limits))
            for number, url in enumerate(urls, start=1):
                transfer = Transfer(
                    client=client, url=url, target=target, wanted=tuple(sha256), limits=limits,
                    stack=stack, progress=progress, note=note, sleep=sleep, clock=clock,
                    deadline=deadline,
                )  # fmt: skip
                try:
                    transfer.run()
                    return target
                except GiveUp as failure:
                    failures.append(f"{shown(url)}: {failure}")
                    if isinstance(failure, WrongFile):
                        kind = FetchError
                    if number < len(urls):  # the error below reports the last
                        note(f"could not download {target.name} from {failures[-1]}")
                except OSError as error:
                    raise disk_error(error, target) from error
    raise kind(
        f"could not download {target.name}: " + "; ".join(failures or ["no source is known"]),
        hint="Run the command again, which resumes a partial download. Or download "
        f"{target.name} by other means, put it into a folder as DIR/{place or target.name} and set "
        "CF_MODELS_MIRROR=DIR.",
    )


def _client(limits: Limits) -> httpx2.Client:
    import httpx2

    return httpx2.Client(
        timeout=httpx2.Timeout(limits.stall_s, connect=limits.connect_s),
        headers={"Accept-Encoding": "identity", "User-Agent": "compreface-cli"},
        follow_redirects=False,
    )
