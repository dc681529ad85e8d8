"""Fetches a file from the first of several sources that delivers it correctly."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from compreface_cli.errors import CfError, FetchError, UnreachableError
from compreface_cli.models import origins, reach
from compreface_cli.models.files import disk_error, locked, make_folder, sha256_of
from compreface_cli.models.sources import Source, parse
from compreface_cli.models.transfer import GiveUp, Limits, Progress, Transfer, WrongFile

if TYPE_CHECKING:
    import httpx2

__all__ = ["Failed", "Limits", "Progress", "fetch", "shown", "transfer"]


class Failed(GiveUp):
    """A source that failed, with the hint and details of the error that says why."""

    def __init__(self, error: CfError) -> None:
        reason = error.details.get("reason") or error.details.get("failures") or error.message
        # What an image lacks counts as absent, since the names in upstream's images are not known.
        absent = isinstance(error, UnreachableError) or "reason" in error.details
        super().__init__(reason, again="reason" not in error.details, absent=absent)
        self.hint, self.details = error.hint, error.details
        self.unreached = error.details.get("unreached", {})


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
    unreached: reach.Unreached | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Fetch `target` from the first of `sources` whose file has one of the hashes `sha256`.

    `unpack` writes the target from an archive or image, which proves it, or raises GiveUp. `place`
    is the target's path below a mirror, for the hint; by default its name. `unreached` takes the
    hosts to which there is no connection, and names those that are not to be tried.
    Without hashes any complete file is taken; the caller must have its hash accepted before use.
    Raises FetchError (`details`: sources, the failure of each; UnreachableError if each
    delivers nothing and none is at fault; then `unreached` if hosts out of reach are all there is),
    ConflictError (locked by another process).
    """
    limits, unreached = limits or Limits(), {} if unreached is None else unreached
    make_folder(target.parent)
    hint: str | None = None
    details: dict[str, Any] = {}
    kind: type[FetchError] = UnreachableError
    with locked(target, note=note):
        proven = any(isinstance(source, Source) and source.proven for source in sources)
        if target.exists() and (sha256_of(target) in sha256 if sha256 or proven else True):
            return target
        failures: list[tuple[str | Source, GiveUp | ValueError]] = []
        deadline = clock() + limits.total_s
        for number, source in enumerate(sources, start=1):
            before = set(unreached)
            try:
                known = parse(source) if isinstance(source, str) else source
                if known.proven and unpack is not None:
                    unpack(known)
                else:
                    transfer(
                        known.url, target, sha256=sha256, limits=limits, progress=progress,
                        note=note, unreached=unreached, sleep=sleep, clock=clock,
                        deadline=deadline,
                    )  # fmt: skip
                origins.keep(target, shown(known))
                return target
            except (GiveUp, ValueError) as failure:
                failures.append((source, failure))
                if isinstance(failure, ValueError) or not failure.absent:
                    kind = FetchError
                if isinstance(failure, Failed):
                    hint, details = failure.hint, {**failure.details}
                known_before = _hosts(failure) and before.issuperset(_hosts(failure))
                if number < len(sources) and not known_before:  # the error below reports the last
                    note(f"could not download {target.name}: {_reasons(failures[-1:])[0]}")
            except OSError as error:
                raise disk_error(error, target) from error
    gone = {host: why for _, failure in failures for host, why in _hosts(failure).items()}
    details["sources"] = [{"source": shown(s), "reason": str(failure)} for s, failure in failures]
    if failures and all(_hosts(failure) for _, failure in failures):
        details["unreached"] = gone
        again = hint or reach.NETWORK
    else:
        details.pop("unreached", None)  # of one source only
        again = (
            f"{hint or _next_step([failure for _, failure in failures])} Or download {target.name} "
            f"by other means, put it into a folder as DIR/{place or target.name} and set "
            "CF_MODELS_MIRROR=DIR."
        )
    details["reasons"] = _reasons(failures) or ["no source is known"]
    reasons = "; ".join(details["reasons"])
    raise kind(f"could not download {target.name}: {reasons}", hint=again, details=details)


def _hosts(failure: GiveUp | ValueError) -> Mapping[str, str]:
    """The hosts out of reach, where they are the whole reason."""
    return failure.unreached if isinstance(failure, GiveUp) else {}


def _reasons(failures: Sequence[tuple[str | Source, GiveUp | ValueError]]) -> list[str]:
    """The reason of each source, each once, and the hosts out of reach together."""
    gone = {host: why for _, failure in failures for host, why in _hosts(failure).items()}
    others = [f"{_named(s)}: {failure}" for s, failure in failures if not _hosts(failure)]
    return [*dict.fromkeys(others), *([reach.words(gone)] if gone else [])]


def _named(source: str | Source) -> str:
    """As `shown`, without the digest of an image."""
    if isinstance(source, Source) and source.kind == "oci":
        return f"{source.path} of {source.address}"
    return shown(source)


def _next_step(failures: Sequence[GiveUp | ValueError]) -> str:
    if any(isinstance(failure, GiveUp) and failure.again for failure in failures):
        return "Run the command again, which resumes a partial download."
    if any(isinstance(failure, WrongFile) for failure in failures):
        return "In a build file of your own, correct the source or its hash."
    return "In a build file of your own, correct the source."


def transfer(
    url: str,
    target: Path,
    *,
    sha256: Sequence[str],
    limits: Limits,
    progress: Progress,
    note: Callable[[str], None],
    unreached: reach.Unreached,
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
            unreached=unreached,
        ).run()  # fmt: skip


def _client(limits: Limits) -> httpx2.Client:
    import httpx2

    return httpx2.Client(
        timeout=httpx2.Timeout(limits.stall_s, connect=limits.connect_s),
        headers={"Accept-Encoding": "identity", "User-Agent": "compreface-cli"},
        follow_redirects=False,
    )
