"""`cf status`: what runs, where, and how it is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.inspect.status import Status
    from compreface_cli.instance.records import Damaged

_UNHEALTHY = 8


def register(app: typer.Typer) -> None:
    app.command(name="status")(status)


def status(
    instance: Annotated[
        str | None, typer.Argument(help="Only this instance.", show_default=False)
    ] = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the instances; exit code 8 if one that should run does not answer."""
    from compreface_cli.inspect import status as flow

    out = Output(json_mode=json_mode)
    with out.waiting("Asking the instances"):
        found, damaged = flow.status(instance)
    for one in damaged:
        out.warning(f"the record {one.path} is damaged and was left out: {one.reason}")
    out.result(_document(found, damaged), lambda console: _draw(found, console))
    if not all(one.well for one in found):
        raise typer.Exit(_UNHEALTHY)


def _document(found: list[Status], damaged: list[Damaged]) -> dict[str, Any]:
    from compreface_cli.deploy.running import service_rows

    return {
        "instances": [
            {
                "name": one.record.name,
                "build": one.record.build,
                "calculator": one.record.calculator,
                "state": one.health.state,
                "detail": one.health.detail,
                "launcher": one.deployment.launcher if one.deployment else None,
                "engine_url": one.deployment.engine.url if one.deployment else None,
                "ui_url": one.deployment.ui.url if one.deployment and one.deployment.ui else None,
                "created": one.record.created,
                "busy": dataclasses.asdict(one.busy) if one.busy else None,
                "services": service_rows(one.health.services),
                "runtimes": dict(one.runtimes),
                "database": [finding.as_dict() for finding in one.database],
            }
            for one in found
        ],
        "damaged": [
            {"name": one.name, "path": str(one.path), "reason": one.reason} for one in damaged
        ],
    }


def _draw(found: list[Status], console: Console) -> None:
    if not found:
        console.print("No instance. `cf up` starts one.", markup=False)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("INSTANCE", "BUILD", "STATE", "BY", "ADDRESS"):
        table.add_column(title, overflow="fold")
    notes: list[str] = []
    for one in found:
        known = one.deployment
        doors = [door.url for door in (known.ui, known.engine) if door] if known else []
        table.add_row(
            *(
                Text(cell)
                for cell in (
                    one.record.name,
                    one.record.build,
                    one.health.state,
                    known.launcher if known else "",
                    " ".join(doors) if one.health.state != "stopped" else "",
                )
            )
        )
        if one.busy:
            notes.append(
                f"{one.record.name}: '{one.busy.command}' works on it (pid {one.busy.pid})"
            )
        elif one.health.detail:
            notes.append(f"{one.record.name}: {one.health.detail}")
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
