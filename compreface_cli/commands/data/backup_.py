"""`cf data backup`: writes face data into one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.data.schedule import Schedule


def run(
    name: Annotated[
        str,
        typer.Argument(metavar="INSTANCE|VOLUME", help="Whose data.", show_default=False),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|FOLDER|-",
            help="File to write, folder for a new one (made if it ends in /), or - for stdout; by "
            "default a new one below cf's data folder.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep",
            min=1,
            metavar="N",
            help="Remove older backups of the same data from that folder, but for N in all.",
        ),
    ] = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt it with a passphrase, which is asked for.")
    ] = False,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--passphrase-file",
            metavar="FILE",
            help="Encrypt it with the passphrase in the first line of a file.",
        ),
    ] = None,
    encrypt_to: Annotated[
        list[str] | None,
        typer.Option(
            "--encrypt-to",
            metavar="RECIPIENT|FILE",
            help="Encrypt it for age1..., an SSH public key, or those in a file; may be repeated.",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            "--schedule",
            metavar="cron|systemd",
            help="Make no backup; print what makes one with these flags every night.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write all faces, subjects, services and users of an instance or a volume into one file.

    The instance may run and be in use meanwhile: the file has its data of one moment.
    """
    from compreface_cli.data import backup, backup_run

    out = Output(json_mode=json_mode, quiet=quiet)
    request = backup_run.Request(
        name, output, force, keep, encrypt, passphrase_file, tuple(encrypt_to or ())
    )
    if schedule is not None:
        _schedule(backup_run.scheduled(request, schedule), out)
        return
    done = backup_run.run(request, out)
    if done.made.path is None or (quiet and not json_mode):
        return

    def draw(console: Console) -> None:
        for line in (*backup.lines(done.made, name), *(f"removed: {p}" for p in done.removed)):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    removed = [str(path) for path in done.removed]
    out.result({**backup.document(done.made), "removed": removed}, draw)


def _schedule(found: Schedule, out: Output) -> None:
    def draw(console: Console) -> None:
        lines = [found.line] if found.line else []
        for path, text in found.files.items():
            lines += [f"# {path}", text]
        lines.append(f"# Then: {' && '.join(found.commands)}")
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    document = {"line": found.line, "files": dict(found.files), "commands": list(found.commands)}
    out.result(document, draw)
