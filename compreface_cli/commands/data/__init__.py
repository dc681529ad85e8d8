"""`cf data`: face data on this machine; one module a subcommand."""

from __future__ import annotations

from importlib import import_module

import typer

# Each has a module of its name with an underscore, whose function `run` is the subcommand.
SUBCOMMANDS: tuple[str, ...] = (
    "list",
    "backup",
    "restore",
    "migrate",
    "repair",
    "clean",
    "delete",
)


def register(app: typer.Typer) -> None:
    data = typer.Typer(
        help="List, back up, restore and move face data.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for name in SUBCOMMANDS:
        data.command(name=name)(import_module(f"{__name__}.{name}_").run)
    app.add_typer(data, name="data")
