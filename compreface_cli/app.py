"""The Typer app: its commands, each imported only when it is asked for; help imports all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from compreface_cli import __version__

# One module a command, in the order of the help page; each has `register(app)`.
COMMANDS: tuple[str, ...] = (
    "list_builds",
    "show",
    "validate",
    "render",
    "doctor",
    "build",
    "up",
    "down",
    "restart",
    "status",
    "logs",
    "config",
    "scan",
    "compare",
)


def _print_version(value: bool) -> None:
    if value:
        print(f"cf {__version__}")
        raise typer.Exit


def make_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """The app with the command that these arguments name, or with all of them."""
    app = typer.Typer(
        name="cf",
        help="Configure, build and launch custom builds of CompreFace.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def root(
        version: Annotated[
            bool,
            typer.Option(
                "--version", callback=_print_version, is_eager=True, help="Print the version."
            ),
        ] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    ) -> None:
        if debug:
            os.environ["CF_DEBUG"] = "1"

    word = next((one for one in arguments if not one.startswith("-")), "").replace("-", "_")
    for name in (word,) if word in COMMANDS else COMMANDS:
        import_module(f"compreface_cli.commands.{name}").register(app)
    return app
