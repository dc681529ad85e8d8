"""`cf list-builds`: lists the builds with their accuracy, terms of use and state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.inspect.list_builds import Row


def register(app: typer.Typer) -> None:
    app.command(name="list-builds")(list_builds)


def list_builds(
    gpu: Annotated[bool, typer.Option("--gpu", help="Only builds for an NVIDIA GPU.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Only builds for the CPU.")] = False,
    commercial: Annotated[
        bool,
        typer.Option(
            "--commercial",
            help="Only builds whose weights and training data allow commercial use.",
        ),
    ] = False,
    commercial_unclear: Annotated[
        bool,
        typer.Option(
            "--commercial-unclear",
            help="Also builds for which that is unclear; `cf show BUILD` says why.",
        ),
    ] = False,
    runnable: Annotated[
        bool, typer.Option("--runnable", help="Only builds that this host can run now.")
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List all builds with their plugins, accuracy and terms of use."""
    from compreface_cli.inspect.list_builds import observe

    devices = {"cuda"} if gpu and not cpu else {"cpu"} if cpu and not gpu else {"cuda", "cpu"}
    terms = {"allowed", "unclear"} if commercial_unclear else {"allowed"}
    fitting = [
        row for row in observe() if row.device in devices and not (runnable and not row.runnable)
    ]
    rows = fitting
    if commercial or commercial_unclear:
        rows = [row for row in fitting if row.commercial in terms]
    left_out = [row.name for row in fitting if row.commercial == "unclear" and row not in rows]
    Output(json_mode=json_mode).result(
        {"builds": [_document(row) for row in rows], "left_out_as_unclear": left_out},
        lambda console: _draw(rows, left_out, console),
    )


def _document(row: Row) -> dict[str, Any]:
    from dataclasses import asdict

    from compreface_cli.config.settings_table import DEFAULT_BUILD

    return {
        "name": row.name,
        "default": row.name == DEFAULT_BUILD,
        "origin": row.origin,
        "path": row.path,
        "fault": row.fault or None,
        "summary": row.summary,
        "detector": row.detector,
        "calculator": row.calculator,
        "plugins": row.plugins,
        "runtime": row.runtime,
        "device": row.device,
        "cpu_flags": row.cpu_flags,
        "accuracy": row.accuracy,
        "licence": row.licence,
        "trained_on": row.trained_on,
        "border": asdict(row.border) if row.border else None,
        "note": row.note or None,
        "upstream": row.upstream or None,
        "models": {
            "state": None if row.models_state == "?" else row.models_state,
            "by_name": row.models,
            "to_give": row.to_give,
        },
        "image": {"built": _known(row.images), "tags": row.images},
        "running": {"running": _known(row.running), "instances": row.running},
        "runnable": row.runnable,
    }


def _known(names: tuple[str, ...] | None) -> bool | None:
    return None if names is None else bool(names)


def _cell(names: tuple[str, ...] | None, word: str) -> str:
    return "?" if names is None else word if names else "-"


# Printed below the table if the word occurs in it.
_WORDS = {
    "?": "?: not known (no Docker, or a broken file)",
    "missing": "missing: `cf up` downloads the models",
    "damaged": "damaged: `cf up` prepares the models again",
    "to give": "to give: `cf up` says which file is needed, and where to put it",
}
_COLUMNS = (
    "LFW: percent right, as published; LFW10: measured here over the same 4950 pairs\n"
    "BORDER: from this similarity on two faces may be one person (`cf compare`)\n"
    "`cf show BUILD` has sources, licences and training data; --json those of all"
)


def _draw(rows: list[Row], left_out: list[str], console: Console) -> None:
    from textwrap import wrap

    head = ["BUILD", "LFW", "LFW10", "BORDER", "COMMERCIAL", "MODELS", "IMAGE", "RUNNING"]
    cells = [[*_cells(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]

    def line(text: str = "", style: str | None = None) -> None:
        console.print(text.rstrip(), markup=False, style=style)

    def table_line(values: list[str]) -> str:
        return "  ".join(value.ljust(width) for value, width in zip(values, widths, strict=True))

    def below(text: str, style: str) -> None:
        width = max(40, console.width - 4)
        for part in wrap(text, width, break_long_words=False, break_on_hyphens=False):
            line(f"    {part}", style)

    line(table_line(head), "bold")
    for row, values in zip(rows, cells, strict=True):
        line(table_line(values), "bold" if row.running else None)
        if row.fault:
            for fault in row.fault.splitlines():
                line(f"    {fault}", "red")
            continue
        gpu = "NVIDIA GPU: " if row.device == "cuda" else ""
        below(f"{gpu}{row.detector} + {row.calculator}", "dim")
        if row.note:
            below(row.note, "yellow")
        if row.to_give:
            below(f"needs your files: no address is known for {', '.join(row.to_give)}", "yellow")
    if not rows:
        line("(no build matches)")
    if left_out:
        line()
        line(f"Not listed, as commercial use of their weights is unclear: {', '.join(left_out)}")
        line("`cf list-builds --commercial-unclear` lists them too; `cf show BUILD` says why.")
    if rows:
        line()
        line(_COLUMNS)
    shown = {value for values in cells for value in values}
    for word, text in _WORDS.items():
        if word in shown:
            line(text)


def _cells(row: Row) -> list[str]:
    from compreface_cli.config.settings_table import DEFAULT_BUILD

    figures = (row.figure("LFW"), row.figure("LFW10"))
    return [
        row.name + (" (default)" if row.name == DEFAULT_BUILD else ""),
        *("-" if value is None else str(value) for value in figures),
        f"{row.border.at:.2f}" if row.border else "-",
        row.commercial,
        row.models_state,
        _cell(row.images, "built"),
        _cell(row.running, "yes"),
    ]
