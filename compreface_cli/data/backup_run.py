"""One run of `cf data backup`: with the instance's lock, into a file or to stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths
from compreface_cli.data import backup
from compreface_cli.data.backup import BackupMade
from compreface_cli.errors import OutputError, UsageError
from compreface_cli.facts.places import Place, place_of
from compreface_cli.instance.records import Instances
from compreface_cli.terminal.output import Output


def to_file(name: str, target: Path | None, out: Output, *, force: bool = False) -> BackupMade:
    """Back up the instance or volume of that name; raises as `backup.backup`."""
    with _place(name) as place:
        return backup.backup(place, out, target=target, force=force)


def to_stdout(name: str, out: Output) -> BackupMade:
    """The same to stdout; raises OutputError if it cannot be written, or its reader has left."""
    if out.json_mode:
        raise UsageError(
            "stdout cannot have both a backup and a JSON document",
            hint="Leave out --json, or name a file: -o FILE",
        )
    if sys.stdout.isatty():
        raise UsageError(
            "a backup is not written to a terminal",
            hint=f"Give it to a program or a file: cf data backup {name} -o - | ...",
        )
    with _place(name) as place:
        try:
            made = backup.stream(place, out, sys.stdout.buffer)
        except OSError as error:
            if error.filename is not None:
                raise
            _drop_stdout()
            left = isinstance(error, BrokenPipeError)
            why = "its reader has ended" if left else error.strerror
            raise OutputError(
                f"the backup of '{name}' was not written whole: {why}",
                hint="What it has received is no backup.",
            ) from error
    for line in backup.lines(made, name):
        out.note(line)
    return made


def _drop_stdout() -> None:
    """Let what is still buffered go nowhere: the interpreter would fail again at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@contextmanager
def _place(name: str) -> Iterator[Place]:
    """The place, while no other `cf` changes its instance."""
    with interruptible():
        place = place_of(name)
        if not place.instance:
            yield place
            return
        with Instances(paths.instances_dir()).lock(place.instance, f"cf data backup {name}"):
            yield place_of(name)
