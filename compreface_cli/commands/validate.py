"""`cf validate`: every fault of a build file, with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.errors import ConfigurationError
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    app.command(name="validate")(validate)


def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="The build files.", show_default=False)
    ],
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check build files and report every fault with its line (exit code 3)."""
    from compreface_cli.inspect.show import checked

    sound, wrong = [], []
    for file in files:
        try:
            sound.append((file, checked(file)))
        except ConfigurationError as error:
            wrong.append(error)
    out = Output(json_mode=json_mode)
    if wrong:
        for file, found in sound:
            out.note(f"{file}: the build {found.build.name} is sound")
        raise _together(wrong)

    def draw(console: Console) -> None:
        for file, found in sound:
            console.print(f"{file}: the build {found.build.name} is sound", markup=False)
            for note in found.notes:
                console.print(f"note: {note}", markup=False, style="yellow")

    rows = [
        {"file": str(file), "build": found.build.name, "notes": found.notes}
        for file, found in sound
    ]
    out.result({**(rows[0] if len(rows) == 1 else {}), "files": rows}, draw)


def _together(wrong: list[ConfigurationError]) -> ConfigurationError:
    """One error with all the faults."""
    if len(wrong) == 1:
        return wrong[0]
    hints = dict.fromkeys(one.hint for one in wrong if one.hint)
    faults = [fault for one in wrong for fault in one.details.get("faults", ())]
    return ConfigurationError(
        "\n".join(one.message for one in wrong),
        hint="\n".join(hints) or None,
        details={"faults": faults},
    )
