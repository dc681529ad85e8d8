"""`cf rollback`: back to the versions before the last upgrade."""

from __future__ import annotations

from typing import Annotated

import typer

from compreface_cli.terminal.output import Output


def register(app: typer.Typer) -> None:
    app.command(name="rollback")(rollback)


def rollback(
    instance: Annotated[str, typer.Argument(help="Name of the instance.")],
    restore_backup: Annotated[
        bool,
        typer.Option(
            "--restore-backup",
            help="Restore the backup of before where the schema has changed since.",
        ),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1.0, help="Seconds to wait for each first answer."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the operations, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Give an instance the versions that it had before its last upgrade.

    A newer version that has changed the database's schema needs --restore-backup: faces that were
    added since are carried over, and the newer database is kept.
    """
    from compreface_cli.commands.upgrade import document, draw
    from compreface_cli.data.rollback import rollback as work

    out = Output(json_mode=json_mode)
    done = work(instance, out, restore_backup=restore_backup, dry_run=dry_run, timeout_s=timeout)
    out.result(document(done), lambda console: draw(done, console))
