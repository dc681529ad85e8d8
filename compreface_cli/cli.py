"""The Typer app: lists the commands, and holds the only place where an error becomes an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated

import typer

from compreface_cli import __version__
from compreface_cli.errors import CfError, InterruptedByUser

# One module a command, in the order of the help page; each has `register(app)`.
COMMANDS: tuple[str, ...] = (
    "list_builds",
    "doctor",
    "build",
    "up",
    "down",
    "restart",
    "status",
    "logs",
)

app = typer.Typer(
    name="cf",
    help="Configure, build and launch custom builds of CompreFace.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(value: bool) -> None:
    if value:
        print(f"cf {__version__}")
        raise typer.Exit


@app.callback()
def _root(
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


for _name in COMMANDS:
    import_module(f"compreface_cli.commands.{_name}").register(app)


def main() -> None:
    """Run `cf`; every error that is meant for the user ends here, with its exit code."""
    try:
        app()
    except (CfError, KeyboardInterrupt) as raised:
        error = (
            InterruptedByUser("interrupted") if isinstance(raised, KeyboardInterrupt) else raised
        )
        from compreface_cli.output import Output

        if os.environ.get("CF_DEBUG"):
            import traceback

            traceback.print_exc()
        Output(json_mode="--json" in sys.argv).error(error)
        sys.exit(error.code)


if __name__ == "__main__":
    main()
