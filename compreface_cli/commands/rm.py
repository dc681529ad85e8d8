"""`cf rm`: removes instances and builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.removal.rm import Removal


def register(app: typer.Typer) -> None:
    app.command(name="rm")(rm)


def rm(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Instances or builds.", show_default=False),
    ] = None,
    instance: Annotated[
        list[str] | None,
        typer.Option(
            "--instance", metavar="NAME", help="Name of an instance, if a build has the same name."
        ),
    ] = None,
    build: Annotated[
        list[str] | None,
        typer.Option(
            "--build", metavar="NAME", help="Name of a build, if an instance has the same name."
        ),
    ] = None,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Also delete the instance's data.")
    ] = False,
    confirm: Annotated[
        list[str] | None,
        typer.Option(
            "--confirm", metavar="NAME", help="Name to be removed, to confirm without a prompt."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be removed, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove stopped instances, or builds of your own and their images.

    Of an instance, the record, project and passwords are removed, and its data with --volumes. Of a
    build that came with cf, only unused images are removed.
    """
    from compreface_cli.removal import rm as removal

    out = Output(json_mode=json_mode)
    removals = removal.rm(
        names or (),
        out,
        instances=instance or (),
        named_builds=build or (),
        volumes=volumes,
        confirmed=confirm or (),
        dry_run=dry_run,
    )
    document = {
        "change": "dry run" if dry_run else "removed",
        "removed": [
            {"of": done.name, "of_kind": done.kind, **thing.row()}
            for done in removals
            for thing in done.removed
        ],
        "kept": [
            {"of": done.name, "of_kind": done.kind, **thing.row()}
            for done in removals
            for thing in done.kept
        ],
    }
    out.result(document, lambda console: _draw(removals, console, dry_run=dry_run))


def _draw(removals: tuple[Removal, ...], console: Console, *, dry_run: bool) -> None:
    from compreface_cli.removal import things

    words = "cf rm would remove (nothing was changed)" if dry_run else "removed"
    for removal in removals:
        what = f"the {removal.kind} '{removal.name}'"
        lines = [f"{words}, of {what}:", *things.lines(removal.removed)]
        if not removal.removed:
            lines = [f"nothing of {what} can be removed"]
        if removal.kept:
            lines += ["kept:", *things.lines(removal.kept)]
        for line in (*lines, *removal.notes):
            console.print(line, markup=False, highlight=False)
