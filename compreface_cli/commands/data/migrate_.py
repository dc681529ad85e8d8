"""`cf data migrate`: gives an instance another build, its faces included."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.errors import UsageError
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.data.migrate import Migrated

_NO_FACE, _SEVERAL = ("keep-out", "refuse"), ("largest", "keep-out")
_REFUSED = 5


def run(
    instance: Annotated[
        str, typer.Argument(metavar="INSTANCE", help="Whose faces.", show_default=False)
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="BUILD",
            help="The build to migrate to, a name or a path; without it a run that was cut off "
            "goes on.",
            show_default=False,
        ),
    ] = None,
    back: Annotated[
        bool, typer.Option("--back", help="Return to the embeddings and the build from before.")
    ] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Remove the embeddings from before, for good.")
    ] = False,
    no_face: Annotated[
        str | None,
        typer.Option(
            "--no-face",
            metavar="keep-out|refuse",
            help="Faces in whose image the new detector finds none.",
            show_default=False,
        ),
    ] = None,
    several: Annotated[
        str | None,
        typer.Option(
            "--several",
            metavar="largest|keep-out",
            help="Faces in whose image it finds several.",
            show_default=False,
        ),
    ] = None,
    without_image: Annotated[
        str | None,
        typer.Option(
            "--without-image",
            metavar="keep-out|refuse",
            help="Faces that were stored without an image.",
            show_default=False,
        ),
    ] = None,
    max_failures: Annotated[
        str | None,
        typer.Option(
            "--max-failures",
            metavar="SHARE",
            help="Share of faces that may be kept out without a rule, 10% by default.",
            show_default=False,
        ),
    ] = None,
    accept_worse: Annotated[
        bool,
        typer.Option(
            "--accept-worse", help="Switch although people would be recognised less often."
        ),
    ] = False,
    accept_licence: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-licence",
            metavar="MODEL|all",
            help="Accept the terms of a model of the new build.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", min=0, max=64, help="Images computed at once; 0: half of the cores."
        ),
    ] = 0,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1.0, help="Seconds to wait for an engine's first answer."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    confirm: Annotated[
        list[str] | None,
        typer.Option(
            "--confirm",
            metavar="NAME",
            help="Name of the instance, to confirm --finish without a prompt.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the plan, measured with stored images; change no data."
        ),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compute all faces anew from their stored images with another build, and switch to it.

    The instance runs on with its present build until the switch, which stops api and admin for
    some seconds. A run that was cut off goes on with the same command.
    """
    if (to is not None) + back + finish > 1:
        raise UsageError("--to, --back and --finish exclude each other")
    out = Output(json_mode=json_mode)
    if finish:
        from compreface_cli.data.migration.finish import finish as finished

        done = finished(instance, out, confirmed=confirm or [], dry_run=dry_run)
        text = "\n".join(done.lines())
        out.result(dataclasses.asdict(done), lambda console: console.print(text, markup=False))
        return
    from compreface_cli.data import migrate
    from compreface_cli.data.migration.rules import Rules, share

    options = migrate.Options(
        rules=Rules(
            _one_of("--no-face", no_face, _NO_FACE),
            _one_of("--several", several, _SEVERAL),
            _one_of("--without-image", without_image, _NO_FACE),
            None if max_failures is None else share(max_failures),
        ),
        jobs=jobs,
        accept_worse=accept_worse,
        accept_licence=accept_licence,
        yes=yes,
        dry_run=dry_run,
        timeout_s=timeout,
    )
    migrated = migrate.migrate(instance, to, out, options, back=back)
    out.result(
        document(migrated),
        lambda console: console.print("\n".join(_lines(migrated)), markup=False, highlight=False),
    )
    if migrated.change == "dry run" and migrated.plan and migrated.plan.verdict.refused:
        raise typer.Exit(_REFUSED)


def _one_of(flag: str, value: str | None, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise UsageError(f"{flag} {value}: it must be {' or '.join(allowed)}")
    return value


def document(done: Migrated) -> dict[str, Any]:
    """The result as JSON."""
    proof = done.result.proof if done.result else None
    return {
        "instance": done.instance,
        "change": done.change,
        "plan": done.plan.as_dict() if done.plan else None,
        "by_outcome": dict(done.verdict.by_outcome) if done.verdict else None,
        "migrated": done.verdict.taken if done.verdict else None,
        "kept_out": done.verdict.kept_out if done.verdict else None,
        "subjects": list(done.subjects),
        "quality": [each.as_dict() for each in done.quality],
        "report": str(done.report) if done.report else None,
        "backup": done.backup or None,
        "proof": dataclasses.asdict(proof) if proof else None,
    }


def _lines(done: Migrated) -> list[str]:
    name = done.instance
    if done.change == "dry run":
        return [f"cf data migrate {name}: this is the plan (no data were changed)"]
    if done.change == "already migrated":
        return [f"'{name}' is migrated to that build already; `--back` returns, `--finish` ends it"]
    build = done.result.plan.build if done.result else ""
    text = [f"'{name}' runs {build} with all faces migrated to it"]
    if done.verdict is not None:
        text.append(f"  {done.verdict.taken} faces migrated, {done.verdict.kept_out} kept out")
    if done.report:
        text.append(f"  report: {done.report}")
    if done.change == "migrated":
        text.append(
            f"  `cf data migrate {name} --back` returns to the old embeddings, `--finish` removes "
            "them"
        )
    return text
