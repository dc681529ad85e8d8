"""The logs of a stack's services, in one stream."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime

from compreface_cli.docker import cli

# Swarm writes the name of the task, its id and node: "cf-x_compreface-api.1.v3k...@node    | text".
_PREFIX = re.compile(r"(?P<task>\S+)@(?P<node>\S+?) +\| ?(?P<text>.*)")


def lines(
    project: str,
    services: Sequence[str],
    *,
    tail: int,
    follow: bool,
    since: datetime | None,
    alone: bool,
) -> Iterator[str]:
    """The lines of these services, each with its task and node unless one service is `alone`.

    With `follow` until the caller stops.
    """
    sources = [_of(project, name, tail=tail, follow=follow, since=since) for name in services]
    if not follow or len(sources) == 1:
        for source in sources:
            with closing(source):
                for line in source:
                    yield _shown(line, project, alone=alone)
        return
    merged: queue.Queue[str | None] = queue.Queue(maxsize=1000)
    for source in sources:
        # Each program ends with the thread that has started it, and so with `cf` at the latest.
        threading.Thread(target=_drain, args=(source, merged), daemon=True).start()
    left = len(sources)
    while left:
        said = merged.get()
        if said is None:
            left -= 1
        else:
            yield _shown(said, project, alone=alone)


def _of(
    project: str, name: str, *, tail: int, follow: bool, since: datetime | None
) -> Generator[str, None, None]:
    return cli.stream(
        *("service", "logs", f"--tail={tail}"),
        *(["--follow"] if follow else []),
        *([f"--since={since.isoformat()}"] if since else []),
        f"{project}_{name}",
        doing=f"read the logs of {name}",
    )


def _drain(source: Iterable[str], into: queue.Queue[str | None]) -> None:
    try:
        for line in source:
            into.put(line)
    finally:
        into.put(None)


def _shown(line: str, project: str, *, alone: bool) -> str:
    """`compreface-api-1@node  | text`, as Compose has it; the text alone if it is `alone`."""
    match = _PREFIX.fullmatch(line)
    if match is None:
        return line
    if alone:
        return match["text"]
    name, _, rest = match["task"].removeprefix(f"{project}_").partition(".")
    slot = rest.partition(".")[0]
    number = slot if slot.isdigit() else "1"
    return f"{name}-{number}@{match['node']}  | {match['text']}"
