"""`cf validate`: reports every fault of build files, with file and line."""

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

    valid, errors = [], []
    for file in files:
        try:
            valid.append((file, checked(file)))
        except ConfigurationError as error:
            errors.append(error)
    out = Output(json_mode=json_mode)
    if errors:
        for file, checks in valid:
            out.note(f"{file}: the build {checks.build.name} is valid")
        raise _merged(errors)

    def draw(console: Console) -> None:
        for file, checks in valid:
            console.print(f"{file}: the build {checks.build.name} is valid", markup=False)
            for note in checks.notes:
                console.print(f"note: {note}", markup=False, style="yellow")

    rows = [
        {"file": str(file), "build": checks.build.name, "notes": checks.notes}
        for file, checks in valid
    ]
    out.result({**(rows[0] if len(rows) == 1 else {}), "files": rows}, draw)


def _merged(errors: list[ConfigurationError]) -> ConfigurationError:
    """One error with the faults of all."""
    if len(errors) == 1:
        return errors[0]
    hints = dict.fromkeys(error.hint for error in errors if error.hint)
    faults = [fault for error in errors for fault in error.details.get("faults", ())]
    return ConfigurationError(
        "\n".join(error.message for error in errors),
        hint="\n".join(hints) or None,
        details={"faults": faults},
    )
