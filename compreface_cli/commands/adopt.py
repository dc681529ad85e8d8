"""`cf adopt`: makes an instance of an install that upstream's own Compose files have made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.commands.build_flags import AcceptLicence
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.data.adopt import Adoption


def register(app: typer.Typer) -> None:
    app.command(name="adopt")(adopt)


def adopt(
    install: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|PROJECT",
            help="Folder with upstream's docker-compose.yml, or the name of its Compose project.",
            show_default=False,
        ),
    ],
    instance: Annotated[
        str | None,
        typer.Option("--instance", help="Name of the instance; the project's name if absent."),
    ] = None,
    build: Annotated[
        str | None,
        typer.Option("--build", help="Build that computes its faces; recognised if absent."),
    ] = None,
    unchecked: Annotated[
        bool,
        typer.Option("--unchecked", help="Go on where no picture is stored to compare faces with."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what is recognised, without changing anything."),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1.0, help="Seconds to wait for the first answer."),
    ] = None,
    accept_licence: AcceptLicence = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Make an instance of an install of upstream.

    Its settings, passwords and volume are kept.

    The new engine is checked with the stored faces beside the running one before anything stops.
    """
    from compreface_cli.data import adopt as adoption
    from compreface_cli.plan.operations import Options

    out = Output(json_mode=json_mode)
    wanted = adoption.Wanted(instance, build, yes, unchecked, tuple(accept_licence or ()))
    done = adoption.adopt(install, wanted, Options(dry_run=dry_run, timeout_s=timeout), out)
    out.result(_document(done), lambda console: _draw(done, console))


def _document(done: Adoption) -> dict[str, Any]:
    found, result = done.found, done.result
    install, deployment = found.install, result.deployment if result else None
    return {
        "instance": found.plan.instance,
        "build": found.plan.build,
        "because": found.cause,
        "calculator": found.plan.calculator,
        "change": "adopted" if result else "dry run",
        "adopted_from": install.from_words,
        "project": install.project,
        "volume": install.volume,
        "settings": dict(found.settings),
        "running": [member.name for member in install.members.values() if member.runs],
        "faces": dict(found.stored.faces),
        "faces_to_compare": len(found.stored.sample),
        "notes": list(found.notes),
        "agreement": done.agreement.as_dict() if done.agreement else None,
        "engine_url": deployment.engine.url if deployment else None,
        "ui_url": deployment.ui.url if deployment and deployment.ui else None,
    }


def _draw(done: Adoption, console: Console) -> None:
    from compreface_cli.data.adopt import shown

    found, result = done.found, done.result
    name = found.plan.instance
    if result is None or result.deployment is None:
        lines = ["cf adopt would do this (nothing was changed):", *shown(found)]
    else:
        known = result.deployment
        lines = [
            f"'{name}' runs, adopted from {found.install.from_words}",
            f"  UI      {known.ui.url if known.ui else ''}",
            f"  engine  {known.engine.url}   {found.plan.calculator}",
        ]
        if done.agreement and done.agreement.compared:
            lines.append(f"  {done.agreement.words}")
        lines.append(
            f"Start none of upstream's containers beside it: two databases on the volume "
            f"{found.install.volume} destroy it. `cf release {name}` gives it back."
        )
    for line in lines:
        console.print(line, markup=False, highlight=False)
