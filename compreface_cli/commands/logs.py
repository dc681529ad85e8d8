"""`cf logs`: prints the log of an instance."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from compreface_cli.errors import UsageError
from compreface_cli.terminal.output import Output
from compreface_cli.terminal.stdout import written


def register(app: typer.Typer) -> None:
    app.command(name="logs")(logs)


def logs(
    instance: Annotated[
        str | None,
        typer.Argument(help="Name of the instance; optional if only one runs.", show_default=False),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Follow new lines until Ctrl-C.")
    ] = False,
    tail: Annotated[int, typer.Option("--tail", min=0, help="Number of lines.")] = 100,
    since: Annotated[
        str | None, typer.Option("--since", help="Lines from this time on: 10m, 2h, or ISO 8601.")
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", help="Only this service, such as core or api.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Add likely cause and next step to known messages.")
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the last log lines of an instance."""
    from compreface_cli.deploy import log_lines, running, unfinished

    if follow and json_mode:
        raise UsageError(
            "--follow cannot be combined with --json, which prints one document", hint="Drop one."
        )
    begin = log_lines.since(since) if since is not None else None
    record = unfinished.actual(running.pick(instance, only_running=True, command="cf logs"))
    deployed = running.deployment(record)
    launcher = running.launcher(deployed.launcher)
    lines = launcher.logs(deployed, tail=tail, follow=follow, service=service, since=begin)
    pairs = log_lines.explained(lines, record.name, service)
    if json_mode:
        every = list(pairs)
        notes = [{"line": line, **note.as_dict()} for line, note in every if note]
        document = {"instance": record.name, "lines": [line for line, _ in every]}
        Output(json_mode=True).write_json({**document, **({"notes": notes} if explain else {})})
        return
    with written(), suppress(KeyboardInterrupt):  # the way to end -f
        for line, note in pairs:
            print(line, flush=follow)
            if explain and note is not None:
                print(f"  ^ {note.text}", flush=follow)
