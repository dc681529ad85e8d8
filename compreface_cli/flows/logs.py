"""`cf logs`: what the services of an instance have written."""

from __future__ import annotations

from collections.abc import Iterator

from compreface_cli.flows import running, unfinished


def logs(
    name: str | None, *, tail: int, follow: bool, service: str | None = None
) -> tuple[str, Iterator[str]]:
    """The instance's name and its log lines; with `follow` they go on until it ends."""
    record = unfinished.actual(running.pick(name, only_running=True, command="cf logs"))
    known = running.deployment(record)
    lines = running.launcher(known.launcher).logs(known, tail=tail, follow=follow, service=service)
    return record.name, lines
