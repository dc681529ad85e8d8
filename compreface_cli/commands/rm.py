"""`cf rm`: forget an instance or a build."""

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
    from compreface_cli.removal import rm as flow

    out = Output(json_mode=json_mode)
    found = flow.rm(
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
            {"of": one.name, "of_kind": one.kind, **thing.row()}
            for one in found
            for thing in one.gone
        ],
        "kept": [
            {"of": one.name, "of_kind": one.kind, **thing.row()}
            for one in found
            for thing in one.kept
        ],
    }
    out.result(document, lambda console: _draw(found, console, dry_run=dry_run))


def _draw(found: tuple[Removal, ...], console: Console, *, dry_run: bool) -> None:
    from compreface_cli.removal import consent

    words = "cf rm would remove (nothing was changed)" if dry_run else "removed"
    for one in found:
        told = [f"{words}, of the {one.kind} '{one.name}':", *consent.lines(one.gone)]
        if not one.gone:
            told = [f"nothing of the {one.kind} '{one.name}' can go"]
        if one.kept:
            told += ["kept:", *consent.lines(one.kept)]
        for line in (*told, *one.notes):
            console.print(line, markup=False, highlight=False)
