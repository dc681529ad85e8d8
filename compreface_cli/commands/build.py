"""`cf build`: build the engine's image of a build, or of a build that flags make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.commands.build_flags import takes_build_flags
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
        bool, typer.Option("--push", help="Push the image to the registries that --tag names.")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Ignore the build cache.")] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Pull a newer base image first.")] = False,
    accept_hash: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-hash", metavar="MODEL=SHA256", help="Accept this hash for the model's file."
        ),
    ] = None,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    *,
    changes: Mapping[str, Any],
) -> None:
    """Build the engine's image; flags that change the build are saved as a build of your own."""
    from compreface_cli.deploy import build as flow
    from compreface_cli.models import accepted

    out = Output(json_mode=json_mode)
    request = flow.Request(
        build=build,
        changes=changes,
        name=name,
        tags=tuple(tag or ()),
        push=push,
        no_cache=no_cache,
        pull=pull,
        accept_hash=accepted.parse(accept_hash or ()),
    )
    made = flow.build(request, out)
    out.result(_document(made), lambda console: _draw(made, console))


def _document(made: Built) -> dict[str, Any]:
    return {
        "build": made.plan.build,
        "image": made.plan.image,
        "id": made.image.id,
        "tags": list(made.tags),
        "digest": next(iter(made.pushed.values()), None),
        "pushed": dict(made.pushed),
        "size": made.image.size,
        "built": made.image.built,
        "labels": dict(made.image.labels),
        "device": made.plan.device,
        "base_image": made.plan.base_image,
        "kept": str(made.kept) if made.kept else None,
    }


def _draw(made: Built, console: Console) -> None:
    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    done = "built" if made.image.built else "is there already, made from the same files"
    line(f"{made.plan.image} {done}")
    line(f"  id      {made.image.id}")
    line(f"  size    {made.image.size / 1e6:.0f} MB with its base, {made.plan.base_image}")
    for tag in made.tags[1:]:
        line(f"  name    {tag}")
    for tag, digest in made.pushed.items():
        line(f"  pushed  {tag.rpartition(':')[0]}@{digest}")
    if made.kept:
        line(f"  kept    {made.kept}")
    line("Next:")
    line(f"  cf up {made.plan.build}")
