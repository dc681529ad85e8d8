"""`cf render`: writes a project for Compose or another target that runs without `cf`."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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
from compreface_cli.errors import UsageError
from compreface_cli.project.targets import TARGETS
from compreface_cli.runtimes import joined
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.plan.plan import Plan
    from compreface_cli.project.writer import Written

MODELS = "core/models"


def register(app: typer.Typer) -> None:
    app.command(name="render")(render)


@takes_build_flags
def render(
    folder: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write.")],
    build: Annotated[
        str | None,
        typer.Argument(help="Name of a build, or path of its file.", show_default=False),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option("--instance", help="Name of the instance; the build's name if absent."),
    ] = None,
    services: Annotated[
        str | None,
        typer.Option("--services", help="full: all five services; core: the engine alone."),
    ] = None,
    port: Annotated[
        str | None,
        typer.Option("--port", help="Host port of the web UI, or of the engine alone."),
    ] = None,
    core_port: Annotated[
        str | None, typer.Option("--core-port", help="Host port of the engine beside the web UI.")
    ] = None,
    bind: Annotated[
        str | None,
        typer.Option("--bind", help="Address that the ports bind to; 127.0.0.1 if absent."),
    ] = None,
    push_to: PushTo = None,
    tls: Tls = None,
    database: Database = None,
    several_apis: SeveralApis = False,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help=f"What it is for: {joined(TARGETS, 'or')}; compose if absent."
        ),
    ] = None,
    no_models: Annotated[
        bool, typer.Option("--no-models", help="Leave the model files out.")
    ] = False,
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
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    *,
    changes: Mapping[str, Any],
) -> None:
    """Write a project for Compose, or another target, that builds and runs without cf."""
    from compreface_cli.models import accepted

    out = Output(json_mode=json_mode)
    target = target or "compose"
    plan, written, digest = _write(
        {
            "build": build,
            "instance": instance,
            "services": services,
            "port": port,
            "core_port": core_port,
            "push_to": push_to,
            "bind": bind,
            "tls_cert": tls[0] if tls else None,
            "tls_key": tls[1] if tls else None,
            "database_url": database,
            "allow_several_apis": True if several_apis else None,
            "fallbacks": False if no_fallbacks else None,
            "accept_licence": accept_licence or None,
            **changes,
        },
        folder,
        out,
        target=target,
        with_models=not no_models,
        accept_hash=accepted.parse(accept_hash or ()),
    )
    # The image cannot be built without them.
    missing = [model.name for model in plan.models if not (folder / MODELS / model.name).is_dir()]
    document = {
        "build": plan.build,
        "instance": plan.instance,
        "target": target,
        "folder": str(folder),
        "changed": written.changed,
        "removed": written.removed,
        "digest": digest,
        "missing_models": missing,
        "fallbacks": [dataclasses.asdict(each) for each in plan.replaced],
    }

    def draw(console: Console) -> None:
        def line(text: str) -> None:
            console.print(text, markup=False, highlight=False)

        changed = len(written.changed)
        line(f"{folder}: {changed} files written" if changed else f"{folder} is up to date")
        for path in written.removed:
            line(f"  removed {path}")
        if missing:
            line("The image cannot be built without its prepared models, which are missing:")
            for name in missing:
                line(f"  {folder / MODELS / name}/")
            line("The same command without --no-models adds them.")
            return
        line("Next:")
        line(f"  {TARGETS[target].next.format(folder=_pasted(folder), project=plan.project)}")

    out.result(document, draw)


def _write(
    flags: Mapping[str, Any],
    folder: Path,
    out: Output,
    *,
    target: str,
    with_models: bool,
    accept_hash: Mapping[str, Sequence[str]],
) -> tuple[Plan, Written, str]:
    """Render the chosen build into the folder; returns the plan, the changes and the digest."""
    from compreface_cli.checks import apis, model_files, port, raise_for, tls
    from compreface_cli.cleanup import interruptible
    from compreface_cli.deploy import fetching, preflight, render_place
    from compreface_cli.deploy.build import prepared_models
    from compreface_cli.facts.tls import look
    from compreface_cli.plan.resolve import asked_for
    from compreface_cli.project import writer

    if target not in TARGETS:
        raise UsageError(
            f"cf renders for {joined(TARGETS, 'and')}, not for '{target}'",
            hint=f"Give --target {joined(TARGETS, 'or')}.",
        )
    # The services run in containers on every target, whatever launcher the settings name.
    plan, chosen = asked_for({**flags, "launcher": "compose"})
    for note in chosen.notes:
        out.note(note)
    conflict = port.clash(plan)
    if conflict is not None:
        raise UsageError(conflict, hint="Give another --core-port.")
    render_place.refuse(plan, folder, out, on_docker=TARGETS[target].on_docker)
    of_apis = list(apis.judge(plan))
    raise_for(of_apis)
    preflight.say(of_apis, out)
    if plan.tls_cert:
        raise_for(list(tls.judge(look(plan.tls_cert, plan.tls_key), datetime.now(UTC))))
    if with_models:
        raise_for(model_files.out_of_reach(plan))
    with interruptible():
        if with_models:
            plan, _ = fetching.fetched(plan, out, accept_hash)
        models = prepared_models(plan, out, accept_hash=accept_hash) if with_models else {}
        rendered = TARGETS[target].render()(plan, models, with_models=with_models)
        return plan, writer.write(rendered, folder), rendered.digest()


def _pasted(folder: Path) -> str:
    """The folder, quoted for a shell and not mistakable for an option."""
    text = str(folder)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
