"""`cf list-builds`: what there is to choose from, and what speaks for and against each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.flows.list_builds import Row


def register(app: typer.Typer) -> None:
    app.command(name="list-builds")(list_builds)


def list_builds(
    gpu: Annotated[bool, typer.Option("--gpu", help="Only builds for an NVIDIA GPU.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Only builds for the CPU.")] = False,
    commercial: Annotated[
        bool, typer.Option("--commercial", help="Not those whose weights exclude commercial use.")
    ] = False,
    runnable: Annotated[
        bool, typer.Option("--runnable", help="Only what this host can run now.")
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List all builds: what they are made of, how accurate they are, what they may be used for."""
    from compreface_cli.flows.list_builds import observe

    devices = {"cuda"} if gpu and not cpu else {"cpu"} if cpu and not gpu else {"cuda", "cpu"}
    found = [
        row
        for row in observe()
        if row.device in devices
        and not (commercial and row.commercial == "excluded")
        and not (runnable and not row.runnable)
    ]
    Output(json_mode=json_mode).result(
        {"builds": [_document(row) for row in found]}, lambda console: _draw(found, console)
    )


def _document(row: Row) -> dict[str, Any]:
    from compreface_cli.flows.list_builds import DEFAULT

    return {
        "name": row.name,
        "default": row.name == DEFAULT,
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


def _known(found: tuple[str, ...] | None) -> bool | None:
    return None if found is None else bool(found)


def _yes(found: tuple[str, ...] | None, word: str) -> str:
    return "?" if found is None else word if found else "-"


_LEGEND = (
    "-: no, or no figure   ?: not known (no Docker, or a broken file)   "
    "missing: `cf up` fetches the models   "
    "to give: `cf up` says which file is needed, and where it goes"
)


class _Notes:
    """Numbers for texts that are too long for a column; equal texts share one."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


def _draw(found: list[Row], console: Console) -> None:
    notes = _Notes()
    head = ["BUILD", "DEVICE", "PUBLISHED", "MEASURED", "COMMERCIAL", "MODELS", "IMAGE", "RUNS"]
    cells = [[*_cells(row, notes)] for row in found]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]

    def line(text: str = "", style: str | None = None) -> None:
        console.print(text.rstrip(), markup=False, style=style)

    def table_line(values: list[str]) -> str:
        return "  ".join(value.ljust(width) for value, width in zip(values, widths, strict=True))

    line(table_line(head), "bold")
    for row, values in zip(found, cells, strict=True):
        line(table_line(values), "bold" if row.running else None)
        if row.fault:
            for fault in row.fault.splitlines():
                line(f"    {fault}", "red")
            continue
        line(f"    {row.detector} + {row.calculator}", "dim")
        if row.to_give:
            line(f"    no address gives {', '.join(row.to_give)}: yours to give", "yellow")
    if not found:
        line("(no build fits)")
    line()
    line(_LEGEND)
    for runtime, flags in sorted({(row.runtime, row.cpu_flags) for row in found}):
        line(f"CPU flags that {runtime} needs: {' '.join(flags)}")
    for number, text in enumerate(notes.texts, start=1):
        line(f"[{number}] {text}")


def _cells(row: Row, notes: _Notes) -> list[str]:
    from compreface_cli.flows.list_builds import DEFAULT

    figures = []
    for kind in ("published", "measured"):
        one = row.best(kind)
        note = notes.mark(f"{one.get('set')}: {one.get('source')}") if one else ""
        figures.append(f"{one.get('value')} {note}" if one else "-")
    commercial, reason = row.commercial, row.licence.get("reason")
    if reason:
        commercial += " " + notes.mark(f"{row.licence.get('weights')}; {reason}")
    return [
        row.name + (" (default)" if row.name == DEFAULT else ""),
        row.device,
        *figures,
        commercial,
        row.models_state,
        _yes(row.images, "built"),
        _yes(row.running, "yes"),
    ]
