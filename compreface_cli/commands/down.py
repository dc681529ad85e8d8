"""`cf down`: stop an instance."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.flows.down import Stopped


def register(app: typer.Typer) -> None:
    app.command(name="down")(down)


def down(
    instance: Annotated[
        str | None,
        typer.Argument(help="Its name; not needed when only one runs.", show_default=False),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds to finish before it is killed.")
    ] = 15.0,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Stop an instance; its data stay."""
    from compreface_cli.flows import down as flow

    out = Output(json_mode=json_mode)
    stopped = flow.down(instance, out, timeout_s=timeout)
    out.result(dataclasses.asdict(stopped), lambda console: _draw(stopped, console))


def _draw(stopped: Stopped, console: Console) -> None:
    words = "is stopped" if stopped.was_running else "had stopped already"
    console.print(f"'{stopped.instance}' {words}", markup=False)
    for what, where in stopped.kept.items():
        console.print(f"  kept: {what} {where}", markup=False)
