"""`cf list-builds`: lists the builds with what a choice between them needs, and their state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.inspect.list_builds import Row

Purpose = Literal["accuracy", "speed", "commercial", "weak-cpu", "gpu"]


def register(app: typer.Typer) -> None:
    app.command(name="list-builds")(list_builds)


def list_builds(
    purpose: Annotated[
        Purpose | None,
        typer.Option("--for", help="Only builds for this purpose, the most suitable first."),
    ] = None,
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
            help="Also builds for which that is unclear, as --for commercial does.",
        ),
    ] = False,
    runnable: Annotated[
        bool,
        typer.Option(
            "--runnable", help="Only builds that this host can run, once models are fetched."
        ),
    ] = False,
    long: Annotated[
        bool, typer.Option("--long", help="All facts about each build, with their sources.")
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List all builds with what they are good for, cost and need, and whether they start here."""
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
    why, unknown = "", list[str]()
    if purpose is not None:
        from compreface_cli.inspect import choose

        chosen = choose.PURPOSES[purpose]
        rows, lacking = choose.fitting(chosen, rows)
        why, unknown = chosen.why, [row.name for row in lacking]
    Output(json_mode=json_mode).lines(
        lambda: {
            "builds": [_document(row) for row in rows],
            "left_out_as_unclear": left_out,
            "left_out_without_a_figure": unknown,
            "order": why or None,
            **_common(),
        },
        lambda width: _lines(rows, left_out, unknown, why, width, long=long),
    )


def _common() -> dict[str, Any]:
    """What holds for the figures of all builds."""
    from dataclasses import asdict

    from compreface_cli.builds import measured
    from compreface_cli.models import catalogue

    return {
        "measured_on": asdict(measured.machine()),
        "face_groups": asdict(catalogue.face_groups()),
    }


def _document(row: Row) -> dict[str, Any]:
    from dataclasses import asdict

    from compreface_cli.config.settings_table import DEFAULT_BUILD
    from compreface_cli.inspect import described

    return {
        "name": row.name,
        "default": row.name == DEFAULT_BUILD,
        "origin": row.origin,
        "path": row.path,
        "fault": row.fault or None,
        "summary": row.summary,
        "good_for": row.good_for or None,
        "detector": row.detector,
        "calculator": row.calculator,
        "plugins": row.plugins,
        "runtime": row.runtime,
        "device": row.device,
        "cpu_flags": row.cpu_flags,
        "accuracy": row.accuracy,
        "by_group": row.by_group,
        "measured": asdict(row.measured) if row.measured else None,
        "licence": row.licence,
        "trained_on": row.trained_on,
        "border": asdict(row.border) if row.border else None,
        "note": row.note or None,
        "upstream": row.upstream or None,
        "download": row.download,
        "to_download": row.to_download,
        "models": {
            "state": None if row.models_state == "?" else row.models_state,
            "by_name": row.models,
            "to_give": row.to_give,
        },
        "image": {"built": _known(row.images), "tags": row.images},
        "running": {"running": _known(row.running), "instances": row.running},
        "runnable": row.runnable,
        "starts": described.start(row),
    }


def _known(names: tuple[str, ...] | None) -> bool | None:
    return None if names is None else bool(names)


def _lines(
    rows: Sequence[Row],
    left_out: Sequence[str],
    unknown: Sequence[str],
    why: str,
    width: int,
    *,
    long: bool,
) -> Iterator[tuple[str, str]]:
    from compreface_cli.commands import build_table

    yield from (build_table.long if long else build_table.short)(rows, width)
    if not rows:
        yield "(no build matches)", ""
    if why:
        yield from build_table.note(why, width)
    if unknown:
        yield from build_table.note(
            f"Not listed, since their figure is not known: {', '.join(unknown)}", width
        )
    if left_out:
        yield from build_table.note(
            f"Not listed, as commercial use of their weights is unclear: {', '.join(left_out)}. "
            "`cf list-builds --for commercial` lists them too; `cf show BUILD` says why.",
            width,
        )
