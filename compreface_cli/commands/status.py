"""`cf status`: lists the instances with their addresses and state."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
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
    out.lines(lambda: _document(instances, damaged), lambda width: _draw(instances))
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
        "reason": _reason(instance),
        "launcher": deployed.launcher if deployed else None,
        "engine_url": deployed.engine.url if deployed else None,
        "ui_url": deployed.ui.url if deployed and deployed.ui else None,
        "created": instance.record.created,
        "busy": dataclasses.asdict(instance.busy) if instance.busy else None,
        "apis": instance.apis,
        "services": service_rows(instance.health.services),
        "runtimes": dict(instance.runtimes),
        "fallbacks": [dataclasses.asdict(each) for each in instance.fallbacks],
        "database": [finding.as_dict() for finding in instance.database],
        "database_address": instance.database_address or None,
        "adopted_from": instance.adopted.from_words if instance.adopted else None,
    }


def _reason(instance: Status) -> dict[str, Any] | None:
    """Why it is slow, crash-looping or not ready, if anything says so."""
    reason, slow = instance.health.reason, instance.health.slow
    if reason is not None:
        next_step = reason.topic.ways[0]
        return {"id": reason.topic.id, "says": reason.says, "line": reason.line, "next": next_step}
    if slow is not None:
        return {"id": slow.topic.id, "says": slow.says, "line": "", "next": slow.topic.ways[0]}
    return None


def _draw(instances: list[Status]) -> Iterator[tuple[str, str]]:
    """A line for each instance, in columns that no width cuts, and notes below."""
    if not instances:
        yield "No instance. `cf up` starts one.", ""
        return
    rows = [("INSTANCE", "BUILD", "STATE", "BY", "ADDRESS"), *map(_cells, instances)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip(), "" if row is not rows[0] else "bold"
    for instance in instances:
        name = instance.record.name
        if instance.busy:
            busy = instance.busy
            yield f"{name}: '{busy.command}' is working on it (pid {busy.pid})", ""
        elif instance.health.detail:
            yield f"{name}: {instance.health.detail}", ""
        for service in instance.health.services:
            for each in service.replicas:
                where = f", metrics at {each.address}/metrics" if each.address else ""
                words = dataclasses.replace(each, name=f"{each.name} {each.number}").words
                yield f"{name}: {words}{where}", ""
        yield from ((line, "") for line in _tasks(instance))
        if instance.fallbacks:
            yield f"{name}: {instance.fallback_words}", ""
        if instance.database_address:
            yield f"{name}: its database is {instance.database_address}", ""
        if instance.apis_words:
            yield f"{name}: {instance.apis_words}", ""
        if instance.adopted and not instance.adopted.half:
            yield f"{name}: adopted from {instance.adopted.from_words}", ""


def _tasks(instance: Status) -> Iterator[str]:
    """A line for each task of a stack on Swarm, with its node."""
    tasks = [task for service in instance.health.services for task in service.tasks]
    width = max((len(task.name) for task in tasks), default=0)
    for task in tasks:
        error = f": {task.error}" if task.error else ""
        yield f"  {task.name.ljust(width)}  {task.state} on {task.node or 'no node'}{error}"


def _cells(instance: Status) -> tuple[str, ...]:
    deployed, state = instance.deployment, instance.health.state
    urls = [each.url for each in (deployed.ui, deployed.engine) if each] if deployed else []
    return (
        instance.record.name,
        instance.record.build,
        state,
        deployed.launcher if deployed else "",
        " ".join(urls) if state != "stopped" else "",
    )
