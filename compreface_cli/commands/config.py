"""`cf config`: where settings are stored, and their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    config = typer.Typer(
        help="Show where settings are stored, and their values.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    config.command(name="path")(path)
    config.command(name="list")(list_settings)
    app.add_typer(config, name="config")


def path(
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print the files and folders that cf uses."""
    from compreface_cli.config import paths, settings

    places = {
        "project_file": Path.cwd() / settings.PROJECT_FILE,
        "user_file": paths.user_file(),
        "builds": paths.user_builds(),
        "models": paths.models_dir(),
        "data": paths.data_dir(),
        "state": paths.state_dir(),
        "cache": paths.cache_dir(),
    }

    def draw(console: Console) -> None:
        for name, place in places.items():
            absent = "" if place.exists() else "  (does not exist)"
            console.print(f"{name.replace('_', ' '):<13} {place}{absent}", markup=False)

    document = {
        name: {"path": str(place), "exists": place.exists()} for name, place in places.items()
    }
    Output(json_mode=json_mode).result({"paths": document}, draw)


def list_settings(
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print every setting: its value, the source of the value, and its other names."""
    from compreface_cli.config import settings

    current = settings.resolve()
    rows = settings.rows(current)
    out = Output(json_mode=json_mode)
    for note in current.notes:
        out.note(note)

    def draw(console: Console) -> None:
        console.print("A flag wins over a CF_* variable, then cf.yaml, its env_file, config.yaml.")
        for row in rows:
            value = "(the build or cf decides)" if row["value"] is None else row["value"]
            style = "dim" if row["origin"] == "default" else None
            console.print(
                f"{row['key']:<20} {value!s:<26} {row['origin']}", markup=False, style=style
            )
            names = [row["env"], row["flag"], row["upstream"] and f".env {row['upstream']}"]
            also = ", ".join(name for name in names if name)
            console.print(f"{'':<20} {row['help']} ({also})", markup=False, style="dim")

    out.result(
        {
            "settings": rows,
            "translated": dict(settings.TRANSLATED),
            "without_effect": dict(settings.WITHOUT_EFFECT),
        },
        draw,
    )
