"""`cf restart`: stop an instance and start the same again."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from compreface_cli.output import Output


def register(app: typer.Typer) -> None:
    app.command(name="restart")(restart)


def restart(
    instance: Annotated[
        str | None,
        typer.Argument(help="Its name; not needed when only one runs.", show_default=False),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=1.0, help="Seconds from start to answer.")
    ] = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Restart an instance with the settings it has; returns when it answers rightly."""
    from compreface_cli.flows import restart as flow
    from compreface_cli.flows.running import service_rows

    out = Output(json_mode=json_mode)
    done = flow.restart(instance, out, timeout_s=timeout)
    document = {
        "instance": done.record.name,
        "build": done.record.build,
        "engine_url": done.deployment.engine.url,
        "ui_url": done.deployment.ui.url if done.deployment.ui else None,
        "services": service_rows(done.services),
        "proof": dataclasses.asdict(done.proof),
    }
    text = (
        f"'{done.record.name}' runs again at {done.deployment.engine.url}\n"
        f"  checked with a known face: cosine {done.proof.cosine:.4f}"
    )
    out.result(document, lambda console: console.print(text, markup=False))
