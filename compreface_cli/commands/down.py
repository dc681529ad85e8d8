"""`cf down`: stop an instance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.deploy.down import Stopped


def register(app: typer.Typer) -> None:
    app.command(name="down")(down)


def down(
    instance: Annotated[
        str | None,
        typer.Argument(help="Name of the instance; optional if only one runs.", show_default=False),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout", min=1.0, help="Seconds to finish running requests before it is killed."
        ),
    ] = 15.0,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Also delete its data: accounts, faces, everything.")
    ] = False,
    confirm: Annotated[
        list[str] | None,
        typer.Option(
            "--confirm", metavar="NAME", help="Name of the instance, to confirm without a prompt."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be removed, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Stop an instance; its data are kept unless --volumes is given."""
    from compreface_cli.deploy import down as deploy

    out = Output(json_mode=json_mode)
    if dry_run or volumes:
        _with_volumes(instance, out, timeout, confirm or [], volumes=volumes, dry_run=dry_run)
        return
    stopped = deploy.down(instance, out, timeout_s=timeout)
    out.result({**_NOTHING_ELSE, **dataclasses.asdict(stopped)}, lambda c: _draw(stopped, c))


_NOTHING_ELSE: dict[str, Any] = {"change": "stopped", "removed": []}


def _with_volumes(
    instance: str | None,
    out: Output,
    timeout: float,
    confirm: list[str],
    *,
    volumes: bool,
    dry_run: bool,
) -> None:
    from compreface_cli.removal import things
    from compreface_cli.removal.rm import down_with_volumes

    name, stopped, removed = down_with_volumes(
        instance, out, timeout_s=timeout, volumes=volumes, confirmed=confirm, dry_run=dry_run
    )
    if stopped is None:
        document: dict[str, Any] = {"instance": name, "change": "dry run"}
        text = f"cf down would stop '{name}' (nothing was changed)"
        text += " and remove:" if removed else "; its data are kept"
    else:
        document = {**_NOTHING_ELSE, **dataclasses.asdict(stopped)}
        text = "removed:" if removed else "It had no data."
    document["removed"] = [thing.row() for thing in removed]

    def draw(console: Console) -> None:
        if stopped is not None:
            _draw(stopped, console)
        for line in (text, *things.lines(removed)):
            console.print(line, markup=False, highlight=False)
        if stopped is not None and stopped.kept:
            console.print(f"`cf rm --instance {name}` removes what is kept.", markup=False)

    out.result(document, draw)


def _draw(stopped: Stopped, console: Console) -> None:
    words = "is stopped" if stopped.was_running else "was already stopped"
    console.print(f"'{stopped.instance}' {words}", markup=False)
    for what, where in stopped.kept.items():
        console.print(f"  kept: {what} {where}", markup=False)
