"""`cf up`: starts a build and waits until it recognises a reference face."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.commands.build_flags import (
    AcceptLicence,
    Database,
    PushTo,
    SeveralApis,
    Tls,
    takes_build_flags,
)
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.deploy.up import Result


def register(app: typer.Typer) -> None:
    app.command(name="up")(up)


@takes_build_flags
def up(
    build: Annotated[
        str | None,
        typer.Argument(help="Name of a build, or path of its file.", show_default=False),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            metavar="NAME",
            help="Use this image of the engine; without a build, the image's labels describe it.",
        ),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option("--instance", help="Name of the instance; the build's name if absent."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="INSTANCE|VOLUME",
            help="Run on this existing data; its calculator must be the build's.",
        ),
    ] = None,
    port: Annotated[
        str | None,
        typer.Option(
            "--port",
            help="Host port of the web UI, or of the engine alone; auto picks a free one.",
        ),
    ] = None,
    core_port: Annotated[
        str | None,
        typer.Option(
            "--core-port", help="Host port of the engine beside the web UI; auto picks a free one."
        ),
    ] = None,
    bind: Annotated[
        str | None,
        typer.Option("--bind", help="Address that the ports bind to; 127.0.0.1 if absent."),
    ] = None,
    push_to: PushTo = None,
    tls: Tls = None,
    database: Database = None,
    several_apis: SeveralApis = False,
    services: Annotated[
        str | None,
        typer.Option("--services", help="full: all five services; core: the engine alone."),
    ] = None,
    launcher: Annotated[
        str | None,
        typer.Option("--launcher", help="auto, compose (Docker), swarm or process (local)."),
    ] = None,
    build_image: Annotated[
        bool | None,
        typer.Option(
            "--build/--no-build", help="Rebuild the image, or never build it.", show_default=False
        ),
    ] = None,
    pull: Annotated[
        bool,
        typer.Option("--pull", help="Pull newer images first, including the base image."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Run all checks and print the operations, without changing anything."
        ),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            min=1.0,
            help="Seconds to wait for the first answer, and for preparing each model.",
        ),
    ] = None,
    no_fallbacks: Annotated[
        bool,
        typer.Option("--no-fallbacks", help="Fail where a plugin's model cannot be fetched."),
    ] = False,
    accept_hash: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-hash", metavar="MODEL=SHA256", help="Accept this hash for the model's file."
        ),
    ] = None,
    accept_licence: AcceptLicence = None,
    wheels: Annotated[
        Path | None,
        typer.Option(
            "--wheels",
            metavar="DIR",
            help="Folder of wheels, for a machine without network access.",
        ),
    ] = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    *,
    changes: Mapping[str, Any],
) -> None:
    """Start a build and wait until it recognises a reference face."""
    from compreface_cli.deploy import up as deploy
    from compreface_cli.errors import UsageError
    from compreface_cli.models import accepted
    from compreface_cli.plan.operations import Options

    out = Output(json_mode=json_mode)
    options = Options(
        build=build_image,
        pull=pull,
        dry_run=dry_run,
        timeout_s=timeout,
        accept_hash=accepted.parse(accept_hash or ()),
        wheels=wheels,
    )
    plan = deploy.resolve(
        {
            "build": build,
            "image": image,
            "instance": instance,
            "data": data,
            "port": port,
            "core_port": core_port,
            "bind": bind,
            "push_to": push_to,
            "tls_cert": tls[0] if tls else None,
            "tls_key": tls[1] if tls else None,
            "database_url": database,
            "allow_several_apis": True if several_apis else None,
            "services": services,
            "launcher": launcher,
            "fallbacks": False if no_fallbacks else None,
            "accept_licence": accept_licence or None,
            **changes,
        },
        out,
        options,
    )
    if plan.launcher == "process":
        if services == "full":
            raise UsageError(
                "a local process is the engine alone; --services full needs Docker",
                hint="Leave --launcher process out, or take --services core.",
            )
        if port is not None and core_port is not None:
            raise UsageError(
                "a local process is the engine alone, with one port; --core-port needs Docker",
                hint="Leave --core-port out, or --launcher process.",
            )
        idle = {
            "--build or --no-build": build_image,
            "--pull": pull or None,
            "--base-image": changes["base_image"],
            "--image": image,
        }
        for flag in (name for name, given in idle.items() if given is not None):
            out.warning(f"{flag} has no effect on a local process, which is the engine alone")
    result = deploy.up(plan, options, out)
    out.result(_document(result, plan.services), lambda console: _draw(result, console))


def _document(result: Result, services: str) -> dict[str, Any]:
    from compreface_cli.deploy import downloads
    from compreface_cli.deploy.running import service_rows

    plan, runs = result.plan, result.deployment
    return {
        "instance": plan.instance,
        "build": plan.build,
        "change": result.change,
        "launcher": plan.launcher,
        "services_wanted": services,
        "calculator": plan.calculator,
        "engine_url": runs.engine.url if runs else None,
        "ui_url": runs.ui.url if runs and runs.ui else None,
        "services": service_rows(result.services),
        "proof": dataclasses.asdict(result.proof) if result.proof else None,
        "left_out": result.left_out,
        "downloads": downloads.rows(result.downloads),
        "fallbacks": [dataclasses.asdict(each) for each in plan.replaced],
        "findings": [finding.as_dict() for finding in result.findings],
        "operations": [dataclasses.asdict(operation) for operation in result.operations],
        "away": [dataclasses.asdict(service) for service in result.away],
    }


def _draw(result: Result, console: Console) -> None:
    from compreface_cli.plan.operations import away_words

    plan, runs = result.plan, result.deployment

    def line(text: str = "") -> None:
        console.print(text, markup=False, highlight=False)

    if runs is None:
        line(f"cf up {plan.build} would do this (nothing was changed):")
        for operation in result.operations:
            line(f"  {operation.verb}: {operation.target}  ({operation.cause})")
        if result.replaces:
            line(away_words(result.away))
        return
    words = {
        "started": "runs",
        "replaced": "replaced the previous engine; it runs",
        "already running": "runs already",
    }
    line(f"{plan.build} {words[result.change]} as instance '{plan.instance}'")
    if runs.ui:
        line(f"  UI      {runs.ui.url}")
    line(f"  engine  {runs.engine.url}   {plan.calculator}")
    if result.proof:
        line(
            f"  checked with a known face: cosine {result.proof.cosine:.4f}, "
            f"box off by {result.proof.box_off_px:.0f} px"
        )
    if plan.launcher == "process":
        line("  It is a local process: started again after a crash, not after a reboot.")
    line("Next:")
    if runs.ui and plan.data:
        line(f"  sign in at {runs.ui.url} with an account of the data")
    elif runs.ui:
        line(f"  sign in first at {runs.ui.url}; the first account becomes the owner")
    line("  cf scan PHOTO.jpg        faces of a photograph")
    line("  cf compare A.jpg B.jpg   the same person?")
    line(f"  cf logs {plan.instance} · cf status · cf down {plan.instance}")
