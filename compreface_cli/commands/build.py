"""`cf build`: builds the engine's image of a build, optionally changed by flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.commands.build_flags import AcceptLicence, takes_build_flags
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.deploy.build import Built


def register(app: typer.Typer) -> None:
    app.command(name="build")(build)


@takes_build_flags
def build(
    build: Annotated[
        str | None,
        typer.Argument(
            help="Name of a build, or path of its file; the default build if absent.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", help="Save it as a build of this name; else custom-build."),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="REPOSITORY[:TAG]",
            help="Further name of the image, repeatable.",
        ),
    ] = None,
    push: Annotated[
        bool,
        typer.Option("--push", help="Push the image to --push-to, and the names of --tag."),
    ] = False,
    push_to: Annotated[
        str | None,
        typer.Option("--push-to", metavar="REGISTRY/FOLDER", help="Push to there; implies --push."),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Ignore the build cache.")] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Pull a newer base image first.")] = False,
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
    """Build the engine's image; flags that change the build are saved as a build of your own."""
    from compreface_cli.deploy import build as deploy
    from compreface_cli.models import accepted

    out = Output(json_mode=json_mode)
    request = deploy.Request(
        build=build,
        changes=changes,
        name=name,
        tags=tuple(tag or ()),
        push=push or push_to is not None,
        push_to=push_to,
        no_cache=no_cache,
        pull=pull,
        fallbacks=False if no_fallbacks else None,
        accept_hash=accepted.parse(accept_hash or ()),
        accept_licence=accept_licence or None,
    )
    built = deploy.build(request, out)
    out.result(_document(built), lambda console: _draw(built, console))


def _document(built: Built) -> dict[str, Any]:
    from compreface_cli.deploy.downloads import rows

    return {
        "build": built.plan.build,
        "image": built.plan.image,
        "id": built.image.id,
        "tags": list(built.tags),
        "digest": built.digest,
        "pushed": dict(built.pushed),
        "reference": built.reference or None,
        "size": built.image.size,
        "built": built.image.built,
        "labels": dict(built.image.labels),
        "device": built.plan.device,
        "downloads": rows(built.downloads),
        "fallbacks": [dataclasses.asdict(each) for each in built.plan.replaced],
        "base_image": built.plan.base_image,
        "kept": str(built.kept) if built.kept else None,
    }


def _draw(built: Built, console: Console) -> None:
    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    done = "built" if built.image.built else "exists already, built from the same files"
    line(f"{built.plan.image} {done}")
    line(f"  id      {built.image.id}")
    line(f"  size    {built.image.size / 1e6:.0f} MB with its base, {built.plan.base_image}")
    for tag in built.tags[1:]:
        line(f"  name    {tag}")
    for tag, digest in built.pushed.items():
        line(f"  pushed  {tag.rpartition(':')[0]}@{digest}")
    if built.reference:
        line(f"  pushed  {built.reference}")
    if built.kept:
        line(f"  kept    {built.kept}")
    line("Next:")
    line(f"  cf up {built.plan.build}")
