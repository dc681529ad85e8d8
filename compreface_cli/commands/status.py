"""`cf status`: lists the instances with their addresses and state."""

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
    from compreface_cli.inspect import status as inspection

    out = Output(json_mode=json_mode)
    with out.waiting("Asking the instances"):
        instances, damaged = inspection.status(instance)
    for record in damaged:
        out.warning(f"the record {record.path} is damaged and was left out: {record.reason}")
    out.result(_document(instances, damaged), lambda console: _draw(instances, console))
    if not all(shown.well for shown in instances):
        raise typer.Exit(_UNHEALTHY)


def _document(instances: list[Status], damaged: list[Damaged]) -> dict[str, Any]:
    return {
        "instances": [_row(instance) for instance in instances],
        "damaged": [
            {"name": record.name, "path": str(record.path), "reason": record.reason}
            for record in damaged
        ],
    }


def _row(instance: Status) -> dict[str, Any]:
    from compreface_cli.deploy.running import service_rows

    deployed = instance.deployment
    return {
        "name": instance.record.name,
        "build": instance.record.build,
        "calculator": instance.record.calculator,
        "state": instance.health.state,
        "detail": instance.health.detail,
        "launcher": deployed.launcher if deployed else None,
        "engine_url": deployed.engine.url if deployed else None,
        "ui_url": deployed.ui.url if deployed and deployed.ui else None,
        "created": instance.record.created,
        "busy": dataclasses.asdict(instance.busy) if instance.busy else None,
        "services": service_rows(instance.health.services),
        "runtimes": dict(instance.runtimes),
        "fallbacks": [dataclasses.asdict(each) for each in instance.fallbacks],
        "database": [finding.as_dict() for finding in instance.database],
    }


def _draw(instances: list[Status], console: Console) -> None:
    if not instances:
        console.print("No instance. `cf up` starts one.", markup=False)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("INSTANCE", "BUILD", "STATE", "BY", "ADDRESS"):
        table.add_column(title, overflow="fold")
    notes: list[str] = []
    for instance in instances:
        name, health, deployed = instance.record.name, instance.health, instance.deployment
        urls = (
            [service.url for service in (deployed.ui, deployed.engine) if service]
            if deployed
            else []
        )
        cells = (
            name,
            instance.record.build,
            health.state,
            deployed.launcher if deployed else "",
            " ".join(urls) if health.state != "stopped" else "",
        )
        table.add_row(*map(Text, cells))
        if instance.busy:
            notes.append(
                f"{name}: '{instance.busy.command}' is working on it (pid {instance.busy.pid})"
            )
        elif health.detail:
            notes.append(f"{name}: {health.detail}")
        if instance.fallbacks:
            notes.append(f"{name}: {instance.fallback_words}")
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
