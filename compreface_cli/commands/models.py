"""`cf models`: lists, fetches, verifies and removes the models of builds."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.commands.build_flags import AcceptLicence
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.weights.known import Row
    from compreface_cli.weights.mirror import Made
    from compreface_cli.weights.pull import Pulled, Request
    from compreface_cli.weights.verify import Verified

_PROOFS = {
    "published": "its hash is published",
    "digest": "proven by a digest, and accepted there by the hash in this mirror",
    "accepted": "its hash is accepted by you, and must be accepted there",
}
_DAMAGED = 9  # the exit code of FetchError


def register(app: typer.Typer) -> None:
    models = typer.Typer(
        help="List, fetch, verify and remove models.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    models.command(name="list")(list_models)
    models.command(name="pull")(pull)
    models.command(name="verify")(verify)
    models.command(name="prune")(prune)
    models.command(name="path")(path)
    app.add_typer(models, name="models")


def list_models(
    everything: Annotated[
        bool, typer.Option("--all", help="Also models that are not on this machine.")
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the models on this machine, the builds that name them, their size and terms."""
    from compreface_cli.weights import known

    out = Output(json_mode=json_mode)
    names = known.named()
    for build, why in names.broken.items():
        out.warning(f"the build {build} cannot be read, so its models are not listed: {why}")
    rows = known.rows(names, everything=everything)
    out.result(
        {"models": [_row(row) for row in rows]},
        lambda console: _draw_rows(rows, console, everything=everything),
    )


def _row(row: Row) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "name": row.name,
        "state": row.state,
        "builds": row.builds,
        "bytes": {
            "prepared": row.prepared_bytes,
            "downloaded": row.downloaded_bytes,
            "to_fetch": row.fetch_bytes,
        },
        "folder": str(row.folder) if row.folder else None,
        "sources": row.sources,
        "terms": asdict(row.terms),
    }


def _draw_rows(rows: Sequence[Row], console: Console, *, everything: bool) -> None:
    from textwrap import wrap

    from compreface_cli.removal.things import size_words

    def line(text: str, style: str | None = None) -> None:
        console.print(text.rstrip(), markup=False, style=style)

    if not rows:
        line("No model is on this machine; the build embedded needs none.")
        line("`cf models list --all` shows those that can be fetched.")
        return
    head = ("MODEL", "STATE", "SIZE", "COMMERCIAL USE")
    cells = []
    for row in rows:
        size = row.prepared_bytes + row.downloaded_bytes
        cells.append((row.name, row.state, size_words(size) if size else "-", row.terms.commercial))
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    line("  ".join(name.ljust(width) for name, width in zip(head, widths, strict=True)), "bold")
    for row, values in zip(rows, cells, strict=True):
        line("  ".join(value.ljust(width) for value, width in zip(values, widths, strict=True)))
        builds = f"of {', '.join(row.builds)}" if row.builds else "of no build"
        fetch = f"; {size_words(row.fetch_bytes)} to download" if row.fetch_bytes else ""
        for part in wrap(f"{builds}{fetch}; {row.terms.licence}", max(40, console.width - 4)):
            line(f"    {part}", "dim")
        for source in row.sources:
            console.print(f"    from {source}", markup=False, style="dim", soft_wrap=True)
    total = sum(row.prepared_bytes + row.downloaded_bytes for row in rows)
    if not everything:
        line(f"{size_words(total)} in all; `cf models prune` removes what no build needs.")


def pull(
    names: Annotated[
        list[str],
        typer.Argument(metavar="BUILD|MODEL...", help="Builds, or models.", show_default=False),
    ],
    mirror: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Put the source files into this folder instead, as a mirror for a machine without "
            "network access; nothing is prepared.",
        ),
    ] = None,
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
) -> None:
    """Fetch and prepare the models of builds, so that they start without a download."""
    from compreface_cli.deploy import downloads
    from compreface_cli.models import accepted
    from compreface_cli.weights import pull as weights

    out = Output(json_mode=json_mode)
    request = weights.Request(
        names=tuple(names),
        accept_hash=accepted.parse(accept_hash or ()),
        accept_licence=tuple(accept_licence or ()),
        wheels=wheels,
    )
    if mirror is not None:
        _pull_mirror(request, mirror, out)
        return
    pulled = weights.pull(request, out)
    document = {
        "models": [
            {"name": one.name, "folder": str(one.folder), "was_here": one.was_here}
            for one in pulled.models
        ],
        "downloads": downloads.rows(pulled.downloads),
    }
    out.result(document, lambda console: _draw_pulled(pulled, console))


def _draw_pulled(pulled: Pulled, console: Console) -> None:
    from dataclasses import replace

    from compreface_cli.deploy import downloads

    for one in pulled.models:
        words = "was prepared already" if one.was_here else "is prepared"
        console.print(f"{one.name} {words}: {one.folder}", markup=False, soft_wrap=True)
    if pulled.downloads:
        words = downloads.words([replace(each, bytes=each.on_disk()) for each in pulled.downloads])
        console.print(f"fetched: {words}", markup=False, soft_wrap=True)
    if not pulled.models:
        console.print("These builds need no models: theirs are inside the engine.")


def _pull_mirror(request: Request, folder: Path, out: Output) -> None:
    from dataclasses import asdict

    from compreface_cli.weights import mirror

    made = mirror.make(request, folder, out)
    done = made.files
    document = {
        "mirror": str(folder),
        "files": [{**asdict(each), "accept": each.flag or None} for each in done],
        "bytes": sum(each.bytes for each in done),
        "missing": made.missing,
    }
    out.result(document, lambda console: _draw_mirror(request, folder, made, console))


def _draw_mirror(request: Request, folder: Path, made: Made, console: Console) -> None:
    from compreface_cli.removal.things import size_words

    def line(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    done = made.files
    if not done:
        line("These builds need no mirror: their models are inside the engine.")
        return
    for each in done:
        words = "is there already" if each.was_there else "written"
        line(f"{folder / each.path}  {size_words(each.bytes)}, {words}, {_PROOFS[each.proof]}")
    line(f"{size_words(sum(each.bytes for each in done))} in all")
    line("On the machine without a network:")
    models = {each.model for each in done}
    for name in request.names:
        command = "models pull" if name in models else "up"
        words = f"cf {command} {shlex.quote(name)} {made.flags}".rstrip()
        line(f"  CF_MODELS_MIRROR={shlex.quote(str(folder.resolve()))} {words}")


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Models; all if absent.", show_default=False),
    ] = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Verify the hashes of prepared models and downloaded files.

    The exit code is 9 if one is damaged.
    """
    from compreface_cli.weights import known
    from compreface_cli.weights import verify as weights

    out = Output(json_mode=json_mode)
    with out.waiting("Reading models") as label:
        done = weights.verify(names or (), known.named(), lambda name: label(f"Reading {name}"))
    rows = [
        {
            "model": one.model,
            "kind": one.kind,
            "path": str(one.path),
            "state": one.state,
            "remedy": one.remedy or None,
        }
        for one in done
    ]
    out.result({"verified": rows}, lambda console: _draw_verified(done, console))
    if any(one.state == "damaged" for one in done):
        raise typer.Exit(_DAMAGED)


def _draw_verified(done: Sequence[Verified], console: Console) -> None:
    for one in done:
        style = "red" if one.state == "damaged" else None
        text = f"{one.state:<10}  {one.model}, {one.kind}: {one.path}"
        console.print(text, markup=False, style=style, soft_wrap=True)
    if not done:
        console.print("No model is on this machine.")
    for remedy in dict.fromkeys(one.remedy for one in done if one.remedy):
        console.print(f"Next: {remedy}", markup=False)


def prune(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without a prompt.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be removed, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Remove models and downloads that no build and no instance needs, and incomplete downloads."""
    from compreface_cli.removal import prune as removal

    out = Output(json_mode=json_mode)
    removed = removal.prune(out, yes=yes, dry_run=dry_run, only_models=True)
    document = {
        "change": "dry run" if dry_run else "removed",
        "removed": [thing.row() for thing in removed],
        "bytes": sum(thing.size or 0 for thing in removed),
    }

    def draw(console: Console) -> None:
        from compreface_cli.removal import things

        lines = ["Nothing to remove: builds or instances need all models that are here."]
        if removed:
            would = "cf models prune would remove (nothing was changed):"
            lines = [would if dry_run else "removed:", *things.lines(removed)]
            lines.append(things.size_words(sum(thing.size or 0 for thing in removed)))
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    out.result(document, draw)


def path(
    model: Annotated[str, typer.Argument(help="Name of a model.", show_default=False)],
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the folder of a prepared model; exit code 9 if it is not prepared."""
    from compreface_cli.weights import known

    folder = known.folder_of(model)
    document = {"name": model, "folder": str(folder)}
    Output(json_mode=json_mode).result(
        document, lambda console: console.print(str(folder), markup=False, soft_wrap=True)
    )
