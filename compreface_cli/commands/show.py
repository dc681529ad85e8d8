"""`cf show`: prints a build file, or the resolved plan with the origin of each value."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.commands.build_flags import takes_build_flags
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.builds.builds import BuildFile
    from compreface_cli.checks import Finding
    from compreface_cli.inspect.list_builds import Row
    from compreface_cli.plan.plan import Plan

_WIDTH = 76  # of the remarks below the file
# Facts that the file itself or the remarks state.
_SAID = frozenset(
    {
        "file",
        "detector",
        "calculator",
        "plugins",
        "accuracy",
        "note",
        "upstream",
        "licence",
        "threshold",
    }
)
_DERIVED = (
    "image_alone",
    "models",
    "replaced",
    "stack",
    "engine_limits",
    "origins",
    "secrets",
    "licence",
    "project",
    "volume",
    "data",
)


def register(app: typer.Typer) -> None:
    app.command(name="show")(show)


@takes_build_flags
def show(
    build: Annotated[
        str | None,
        typer.Argument(help="Name of a build, or path of its file.", show_default=False),
    ] = None,
    resolved: Annotated[
        bool,
        typer.Option(
            "--resolved",
            help="Show the resolved plan with the origin of each value; implied by build flags.",
        ),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    *,
    changes: Mapping[str, Any],
) -> None:
    """Show a build file, or the resolved plan with the origin of each value."""
    from dataclasses import asdict

    from compreface_cli.builds import imported
    from compreface_cli.commands import build_table
    from compreface_cli.inspect import show as inspection
    from compreface_cli.photos.compare import scale
    from compreface_cli.plan.fallbacks import words
    from compreface_cli.plan.resolve import asked_for

    out = Output(json_mode=json_mode)
    flags = {"build": build, **changes}
    findings = inspection.ui_findings(flags)
    if resolved or any(value is not None for value in changes.values()):
        plan, chosen = asked_for(flags)
        for note in chosen.notes:
            out.note(note)
        accepted = inspection.accepted_hashes(plan, out.note)
        out.result(
            {
                "plan": plan.as_dict(),
                "accepted_hashes": accepted,
                "findings": [finding.as_dict() for finding in findings],
            },
            lambda console: _draw(plan, accepted, console),
        )
        _warn(findings, out)
        return
    shown = inspection.shown(build)
    file = shown.path.read_text("utf-8")
    runtimes, replaced = inspection.runtimes(shown.name), inspection.replaced(shown.name)
    record = imported.read(shown.path) if shown.origin == "imported" else None
    border, weights, row = (
        inspection.border(shown),
        inspection.weights(shown),
        inspection.row(shown),
    )
    document = {
        "build": shown.spec.model_dump(mode="json", by_alias=True),
        "origin": shown.origin,
        "path": str(shown.path),
        "imported": asdict(record) if record else None,
        "tolerance": shown.spec.min_cosine,
        "runtimes": runtimes,
        "fallbacks": {
            name: [asdict(each) for each in plugins] for name, plugins in replaced.items()
        },
        "border": asdict(border) if border else None,
        "licence": weights.licence,
        "trained_on": weights.trained_on,
        "findings": [finding.as_dict() for finding in findings],
        **_figures(row),
    }

    def draw(console: Console) -> None:
        console.print(f"# {shown.path}", style="dim", markup=False)
        console.print(file.rstrip("\n"), markup=False)
        for line, _ in build_table.facts(row, _WIDTH + 2, "# ", _SAID):
            console.print(line, style="dim", markup=False, highlight=False)
        remarks = [f"commercial use of the weights: {weights.licence['commercial']}"]
        remarks += [f"  {name}: {terms}" for name, terms in weights.terms.items()]
        for text in (*remarks, scale(shown.spec.calculator, border)):
            indent = text[: len(text) - len(text.lstrip())]
            for line in textwrap.wrap(
                text.strip(), _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  "
            ):
                console.print(f"# {line}", style="dim", markup=False, highlight=False)
        _draw_runtimes(shown, runtimes, console)
        for name, plugins in replaced.items():
            for each in plugins:
                line = f"# instance {name}: {words([each])}, {each.model} could not be fetched"
                console.print(line, style="dim", markup=False, highlight=False)

    out.result(document, draw)
    _warn(findings, out)


def _figures(row: Row) -> dict[str, Any]:
    """What `cf list-builds --json` says of the build and its file does not."""
    from dataclasses import asdict

    from compreface_cli.builds import measured
    from compreface_cli.inspect import described
    from compreface_cli.models import catalogue

    return {
        "measured": asdict(row.measured) if row.measured else None,
        "measured_on": asdict(measured.machine()),
        "by_group": row.by_group,
        "face_groups": asdict(catalogue.face_groups()),
        "download": row.download,
        "to_download": row.to_download,
        "models": row.models,
        "starts": described.start(row),
    }


def _warn(findings: Sequence[Finding], out: Output) -> None:
    for finding in findings:
        out.warning(f"{finding.message}. {finding.hint}. [{finding.id}]")


def _draw_runtimes(build: BuildFile, instances: Mapping[str, Any], console: Console) -> None:
    """Print the configured runtime, and those that the running instances use."""
    from compreface_cli.deploy.running import runtime_words
    from compreface_cli.runtimes import RUNTIMES

    spec = build.spec
    configured = f"runtime {spec.runtime}, precision {spec.precision}"
    if RUNTIMES[spec.runtime].measured:
        configured += f"; cosine to fp32 at least {spec.min_cosine:g}"
    console.print(f"# {configured}", style="dim", markup=False, highlight=False)
    for name, networks in instances.items():
        for slug, runtime in networks.items():
            line = f"# instance {name}, {slug}: {runtime_words(runtime)}"
            console.print(line, style="dim", markup=False, highlight=False)


def _draw(plan: Plan, accepted: Mapping[str, Sequence[str]], console: Console) -> None:
    document = plan.as_dict()
    rows = [
        (key, _text(value), plan.origins.get(key, ""))
        for key, value in document.items()
        if key not in _DERIVED
    ]
    rows += [(key, value, plan.origins.get(key, "")) for key, value in plan.stack.items()]
    for variable, value in plan.engine_limits.items():
        key = variable.removeprefix("CF_").lower()
        rows.append((key, value, plan.origins.get(key, "")))
    rows += [(key, "(set)", plan.origins.get(key, "")) for key in plan.secrets]
    rows += [("project", plan.project, ""), ("volume", plan.volume, "")]
    width = max(len(key) for key, _, _ in rows)
    middle = min(60, max(len(value) for _, value, _ in rows))
    for key, value, origin in rows:
        line = f"{key.ljust(width)}  {value.ljust(middle)}  {origin}"
        plain = not origin or origin == "default"
        console.print(line.rstrip(), markup=False, style="dim" if plain else None)
    for model in plan.models:
        known = [sha for file in model.files for sha in file.sha256]
        known += [f"{sha} (accepted by you)" for sha in accepted.get(model.name, ())]
        hashes = ", ".join(known) or "no known hash"
        console.print(f"model {model.name}: {model.format}, {hashes}", markup=False)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "(none)"
    return str(value)
