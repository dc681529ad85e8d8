"""Fetches a file from the first of several sources that delivers it correctly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from compreface_cli.errors import CfError, FetchError, UnreachableError
from compreface_cli.models import origins
from compreface_cli.models.files import disk_error, locked, make_folder, sha256_of
from compreface_cli.models.sources import Source, parse
from compreface_cli.models.transfer import GiveUp, Limits, Progress, Transfer, WrongFile

if TYPE_CHECKING:
    import httpx2

__all__ = ["Failed", "Limits", "Progress", "fetch", "shown", "transfer"]


class Failed(GiveUp):
    """A source that failed, with the hint and details of the error that says why."""

    def __init__(self, error: CfError) -> None:
        super().__init__(error.message)
        self.hint, self.details = error.hint, error.details
        # Neither the network nor what the image lacks: other bytes, or the disk.
        self.final = not isinstance(error, UnreachableError) and "reason" not in error.details


def shown(source: str | Source) -> str:
    """The source for messages: an address without user name, password and query."""
    if isinstance(source, Source) and source.kind == "oci":
        return f"{source.path} of {source.address}@{source.digest}"
    if isinstance(source, Source) and source.proven:
        return f"{source.path} of {shown(source.url)}"
    try:
        parts = urlsplit(source.url if isinstance(source, Source) else source)
        host = parts.hostname or ""
        where = f"{host}:{parts.port}" if parts.port else host
        return urlunsplit((parts.scheme, where, parts.path, "", ""))
    except ValueError:
        return "an address that cannot be read"


def fetch(
    sources: Sequence[str | Source],
    target: Path,
    *,
    sha256: Sequence[str],
    progress: Progress,
    note: Callable[[str], None],
    unpack: Callable[[Source], None] | None = None,
    place: str | None = None,
    limits: Limits | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Fetch `target` from the first of `sources` whose file has one of the hashes `sha256`.

    `unpack` writes the target from an archive or image, which proves it, or raises GiveUp. `place`
    is the target's path below a mirror, for the hint; by default its name.
    Without hashes any complete file is taken; the caller must have its hash accepted before use.
    Raises FetchError (the failure of each source; UnreachableError if none delivers a wrong file),
    ConflictError (locked by another process).
    """
    limits = limits or Limits()
    make_folder(target.parent)
    hint, details = None, {}
    kind: type[FetchError] = UnreachableError
    with locked(target, note=note):
        proven = any(isinstance(source, Source) and source.proven for source in sources)
        if target.exists() and (sha256_of(target) in sha256 if sha256 or proven else True):
            return target
        failures: list[str] = []
        deadline = clock() + limits.total_s
        for number, source in enumerate(sources, start=1):
            try:
                known = parse(source) if isinstance(source, str) else source
                if known.proven and unpack is not None:
                    unpack(known)
                else:
                    transfer(
                        known.url, target, sha256=sha256, limits=limits, progress=progress,
                        note=note, sleep=sleep, clock=clock, deadline=deadline,
                    )  # fmt: skip
                origins.keep(target, shown(known))
                return target
            except (GiveUp, ValueError) as failure:
                named = isinstance(failure, Failed)  # its message says what it could not read
                failures.append(str(failure) if named else f"{shown(source)}: {failure}")
                if isinstance(failure, WrongFile):
                    kind = FetchError
                if isinstance(failure, Failed):
                    kind = FetchError if failure.final else kind
                    hint, details = failure.hint, failure.details
                if number < len(sources):  # the error below reports the last
                    note(f"could not download {target.name}: {failures[-1]}")
            except OSError as error:
                raise disk_error(error, target) from error
    by_hand = (
        f"download {target.name} by other means, put it into a folder as "
        f"DIR/{place or target.name} and set CF_MODELS_MIRROR=DIR."
    )
    again = hint or "Run the command again, which resumes a partial download."
    reasons = list(dict.fromkeys(failures)) or ["no source is known"]
    raise kind(
        f"could not download {target.name}: {'; '.join(reasons)}",
        hint=f"{again} Or {by_hand}",
        details={**details, "reasons": reasons},
    )


def transfer(
    url: str,
    target: Path,
    *,
    sha256: Sequence[str],
    limits: Limits,
    progress: Progress,
    note: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    deadline: float,
) -> None:
    """Download `target` from one address; raises GiveUp, OSError, FetchError (no room).

    The caller holds the lock of `target`.
    """
    with ExitStack() as stack:
        client = stack.enter_context(_client(limits))
        Transfer(
            client=client, url=url, target=target, wanted=tuple(sha256), limits=limits, stack=stack,
            progress=progress, note=note, sleep=sleep, clock=clock, deadline=deadline,
        ).run()  # fmt: skip


def _client(limits: Limits) -> httpx2.Client:
    import httpx2

    return httpx2.Client(
        timeout=httpx2.Timeout(limits.stall_s, connect=limits.connect_s),
        headers={"Accept-Encoding": "identity", "User-Agent": "compreface-cli"},
        follow_redirects=False,
    )
