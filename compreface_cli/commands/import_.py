"""`cf import`: keeps a build that `cf export` wrote on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.commands.build_flags import AcceptLicence
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.sharing.keep import Kept


def register(app: typer.Typer) -> None:
    app.command(name="import")(import_)


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|URL", help="File of cf export, or its address.", show_default=False
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name to keep it under; its own if absent.")
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", metavar="SHA256", help="Refuse a file with another hash."),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help="Keep it, and accept the hashes that only its sender states."),
    ] = False,
    accept_licence: AcceptLicence = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Take the place of an imported or bundled build."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Keep a build that `cf export` wrote on another machine.

    Shows the build, its models and their terms, and asks before anything is kept.
    """
    from compreface_cli.sharing import keep

    out = Output(json_mode=json_mode)
    request = keep.Request(
        source,
        name=name,
        sha256=sha256,
        yes=yes,
        accept_licence=accept_licence or (),
        force=force,
    )
    kept = keep.import_(request, out)
    out.result(_document(kept), lambda console: _draw(kept, console))


def _document(kept: Kept) -> dict[str, Any]:
    offer = kept.offer
    return {
        "build": kept.name,
        "path": str(kept.path),
        "origin": "imported",
        "from": kept.record.source,
        "sha256": kept.record.sha256,
        "written_by": kept.record.cf,
        "named_there": kept.record.build,
        "detector": offer.plan.detector,
        "calculator": offer.plan.calculator,
        "plugins": offer.plan.plugins,
        "fallbacks": offer.spec.fallbacks,
        "base_image": offer.spec.base_image,
        "models": offer.model_rows(),
        "accepted": kept.record.accepted,
    }


def _draw(kept: Kept, console: Console) -> None:
    for line in (
        f"kept as the build {kept.name}: {kept.path}",
        f"Next: cf up {kept.name} · cf show {kept.name} · cf rm --build {kept.name}",
    ):
        console.print(line, markup=False, highlight=False)
