"""`cf data restore`: makes an instance from a backup."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.data.restore import Restored


def run(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="A backup, or - for stdin.", show_default=False)
    ],
    instance: Annotated[
        str | None,
        typer.Option(
            "--instance", metavar="NAME", help="Name of the instance; by default the backup's."
        ),
    ] = None,
    start: Annotated[bool, typer.Option("--up", help="Also start the instance.")] = False,
    identity: Annotated[
        Path | None,
        typer.Option(
            "--identity",
            metavar="FILE",
            help="Key of a backup that is encrypted for a recipient: of age-keygen, or of SSH.",
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="File whose first line is the passphrase of the backup, or of the key.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Verify the backup and print what it has; change nothing."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Make a new, stopped instance with the database of a backup.

    The backup is verified before, and its rows are counted after. Restore only backups that you
    trust: PostgreSQL runs what is in them, in a container without a network.
    """
    from compreface_cli.data import protection, restore

    out = Output(json_mode=json_mode)
    source = None if file == "-" else Path(file)
    unlock = protection.unlock(identity, passphrase_file, "stdin" if source is None else file)
    done = restore.restore(source, instance, out, unlock=unlock, dry_run=dry_run)
    started = None
    if start and done.record is not None:
        started = restore.start(done, out)
    document: dict[str, Any] = {
        "change": "dry run" if dry_run else "started" if started else "restored",
        "instance": done.instance,
        "volume": done.plan.volume if done.plan else None,
        "next": done.next_command,
        "build_file": str(done.build) if done.build else None,
        "differing_settings": list(done.differing),
        "bytes": done.bytes,
        "sha256": done.sha256,
        "manifest": done.manifest.model_dump(mode="json"),
    }
    out.result(document, lambda console: _draw(done, console, started=bool(started)))


def _draw(done: Restored, console: Console, *, started: bool) -> None:
    for line in done.lines(started=started):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
