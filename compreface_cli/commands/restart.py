"""`cf restart`: restarts the engine, or the whole instance."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from compreface_cli.terminal.output import Output


def register(app: typer.Typer) -> None:
    app.command(name="restart")(restart)


def restart(
    instance: Annotated[
        str | None,
        typer.Argument(help="Name of the instance; optional if only one runs.", show_default=False),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Restart all services, which are unavailable meanwhile.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print which services would be unavailable, without changing anything.",
        ),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1.0, help="Seconds to wait for the first answer."),
    ] = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Restart an instance with its present settings and wait for a correct answer.

    In the full stack, only the engine is restarted: a new engine takes over from the running one,
    and no request fails.
    """
    from compreface_cli.deploy import restart as deploy
    from compreface_cli.deploy.running import service_rows
    from compreface_cli.plan.operations import away_words

    out = Output(json_mode=json_mode)
    done = deploy.restart(instance, out, whole=whole, dry_run=dry_run, timeout_s=timeout)
    document = {
        "instance": done.record.name,
        "build": done.record.build,
        "change": "dry run" if dry_run else "restarted",
        "whole": done.whole,
        "engine_url": done.deployment.engine.url,
        "ui_url": done.deployment.ui.url if done.deployment.ui else None,
        "away": [dataclasses.asdict(away) for away in done.away],
        "services": service_rows(done.services),
        "proof": dataclasses.asdict(done.proof) if done.proof else None,
    }
    if done.proof is None:
        text = f"cf restart {done.record.name} would do this (nothing was changed):\n  restart: "
        text += f"everything, because {done.whole}" if done.whole else "the engine"
        text += f"\n{away_words(done.away)}"
    else:
        text = (
            f"'{done.record.name}' runs again at {done.deployment.engine.url}\n"
            f"  checked with a known face: cosine {done.proof.cosine:.4f}"
        )
    out.result(document, lambda console: console.print(text, markup=False, highlight=False))
