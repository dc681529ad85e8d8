"""One run of `cf data backup`: with the instance's lock, into a file or to stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths
from compreface_cli.data import backup, backup_file, kept, schedule
from compreface_cli.data.backup import BackupMade
from compreface_cli.data.protection import Protection, chosen
from compreface_cli.data.schedule import Schedule
from compreface_cli.errors import OutputError, UsageError
from compreface_cli.facts.places import Place, place_of
from compreface_cli.instance.records import Instances
from compreface_cli.terminal.output import Output


@dataclass(frozen=True, slots=True)
class Request:
    """The flags of the command."""

    name: str
    output: str | None = None  # a file, a folder, "-" for stdout
    force: bool = False
    keep: int | None = None
    encrypt: bool = False
    passphrase_file: Path | None = None
    encrypt_to: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The backup, and the older ones that `keep` has removed."""

    made: BackupMade
    removed: Sequence[Path] = ()


def run(request: Request, out: Output) -> Done:
    """Make the backup; raises as `backup.backup`, and UsageError for what does not fit together."""
    name = request.name
    if request.output == "-":
        return Done(to_stdout(request, out))
    kind = _protection(request)
    target = Path(request.output) if request.output else None
    is_folder = target is not None and (target.is_dir() or str(request.output).endswith(os.sep))
    if request.keep is not None and target is not None and not is_folder:
        raise UsageError(
            f"--keep is for the backups in a folder, and {target} is none",
            hint=f"To have it made: -o {target}{os.sep}",
        )
    with _place(name) as place:
        if target is not None and is_folder:
            backup_file.private(target)
            target = target / backup_file.default(name, kind.suffix, target).name
        made = backup.backup(place, out, target=target, force=request.force, protection=kind)
        if request.keep is None or made.path is None:
            return Done(made)
        return Done(made, kept.thin(made.path, place, request.keep, out))


def scheduled(request: Request, kind: str) -> Schedule:
    """What makes such a backup every night; raises UsageError, ConfigurationError as `run`."""
    if kind not in ("cron", "systemd"):
        raise UsageError(f"--schedule is cron or systemd, not {kind!r}")
    folder = Path(request.output) if request.output else None
    if folder is not None and not folder.is_dir():
        raise UsageError(
            f"a schedule makes a new file each time, and {folder} is no folder",
            hint="Name a folder with -o, or leave it out.",
        )
    if request.encrypt and request.passphrase_file is None:
        raise UsageError(
            "nobody answers at night: --encrypt would ask for a passphrase",
            hint="--passphrase-file FILE, or --encrypt-to RECIPIENT",
        )
    _protection(request)  # raises for what is no recipient
    place_of(request.name)  # and for an unknown name
    flags = ["-o", str(folder.absolute())] if folder else []
    flags += ["--keep", str(request.keep)] if request.keep else []
    if request.passphrase_file:
        flags += ["--passphrase-file", str(request.passphrase_file.absolute())]
    for recipient in request.encrypt_to:
        path = Path(recipient)
        flags += ["--encrypt-to", str(path.absolute()) if path.is_file() else recipient]
    return schedule.schedule("cron" if kind == "cron" else "systemd", request.name, flags)


def _protection(request: Request) -> Protection:
    return chosen(request.encrypt, request.encrypt_to, request.passphrase_file)


def to_stdout(request: Request, out: Output) -> BackupMade:
    """The same to stdout; raises OutputError if it cannot be written, or its reader has left."""
    name = request.name
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
    if request.keep is not None:
        raise UsageError("--keep is for backups in a folder, and stdout is none")
    protection = _protection(request)
    with _place(name) as place:
        try:
            made = backup.stream(place, out, sys.stdout.buffer, protection=protection)
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
