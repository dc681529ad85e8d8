"""The Typer app; the module of a command is imported only when that command is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from keyword import iskeyword
from typing import Annotated

import typer

from compreface_cli import __version__

# Each command -> its line on the help page, in that order. Its module has `register(app)`.
COMMANDS: Mapping[str, str] = {
    "list_builds": "List the available builds.",
    "models": "List, fetch, verify and remove models.",
    "show": "Show a build file, or the resolved plan.",
    "validate": "Check build files.",
    "build": "Build the engine's image.",
    "export": "Write a build into one file for others.",
    "import": "Keep a build that another machine exported.",
    "render": "Write a Compose project that runs without cf.",
    "up": "Start a build and wait until it recognises a reference face.",
    "adopt": "Make an instance of an install of upstream.",
    "release": "Give an adopted install back as it was.",
    "down": "Stop an instance; its data are kept.",
    "restart": "Restart an instance.",
    "upgrade": "Upgrade an instance, with a backup, a check and the way back.",
    "rollback": "Return to the versions before the last upgrade.",
    "rm": "Remove instances, or your own builds and their images.",
    "prune": "Remove unused images, environments and models.",
    "data": "List, back up, restore and move face data.",
    "status": "Show the instances.",
    "logs": "Print the last log lines of an instance.",
    "scan": "Find the faces in photographs.",
    "compare": "Compare the faces in photographs.",
    "demo": "Run two bundled portraits through the engine.",
    "doctor": "Check this machine.",
    "support": "Write what helps to find a fault into one archive.",
    "explain": "Explain a finding, an error or a line of a log.",
    "secrets": "List an instance's passwords and keys, and replace them.",
    "config": "Show where settings are stored, and their values.",
}


def _print_version(value: bool) -> None:
    if value:
        print(f"cf {__version__}")
        raise typer.Exit


def make_app(arguments: Sequence[str] | None = None) -> typer.Typer:
    """The app with all commands; given `arguments`, with the one command that they name.

    If they name none, every command is listed with its help line, and no module is imported.
    """
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

    words = [argument for argument in arguments or () if not argument.startswith("-")]
    word = words[0].replace("-", "_") if words else ""
    if arguments is None or word in COMMANDS:
        for name in (word,) if word in COMMANDS else COMMANDS:
            import_module(f"compreface_cli.commands.{module_of(name)}").register(app)
    else:
        for name, line in COMMANDS.items():
            app.command(name=name.replace("_", "-"), help=line)(_no_command)
    return app


def module_of(command: str) -> str:
    """The name of the module of a command; `import` is a keyword, so that one has an underscore."""
    return f"{command}_" if iskeyword(command) else command


def _no_command() -> None:
    """Placeholder for a command on the help page; never called."""


def typed() -> Sequence[str]:
    """The arguments of this process, or those of the line that a shell asks to complete."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS")
    return line.split()[1:] if line else sys.argv[1:]
