"""`cf upgrade`: other versions of the stack and the present engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.data.upgrade import Upgraded


def register(app: typer.Typer) -> None:
    app.command(name="upgrade")(upgrade)


def upgrade(
    instance: Annotated[str, typer.Argument(help="Name of the instance.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="VERSION",
            help="Version of admin, api and UI; the newest that cf knows if absent.",
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1.0, help="Seconds to wait for each first answer."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the operations, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Give an instance newer versions of CompreFace's services and of the engine.

    A backup is made first. Afterwards the api must recognise a stored face; otherwise the instance
    goes back to what it was, with its data.
    """
    from compreface_cli.data.upgrade import upgrade as work

    out = Output(json_mode=json_mode)
    done = work(instance, out, to=to, dry_run=dry_run, timeout_s=timeout)
    out.result(document(done), lambda console: draw(done, console))


def document(done: Upgraded) -> dict[str, Any]:
    """The JSON document of an upgrade or a rollback."""
    result = done.result
    return {
        "instance": done.instance,
        "change": done.change,
        "versions": [dataclasses.asdict(step) for step in done.steps],
        "operations": [dataclasses.asdict(each) for each in result.operations] if result else [],
        "away": [dataclasses.asdict(each) for each in result.away] if result else [],
        "backup": done.backup,
        "recognised": dataclasses.asdict(done.recognised) if done.recognised else None,
        "put_back": dataclasses.asdict(done.put_back) if done.put_back else None,
    }


def draw(done: Upgraded, console: Console) -> None:
    """Print an upgrade or a rollback."""
    for line in _lines(done):
        console.print(line, markup=False, highlight=False)


def _lines(done: Upgraded) -> Iterator[str]:
    from compreface_cli.plan.operations import away_words

    name = done.instance
    if done.change == "nothing":
        yield f"'{name}' runs these versions and this cf's engine already"
        return
    if done.change == "dry run":
        yield f"'{name}' would be changed like this, after a backup (nothing was changed):"
    else:
        yield f"'{name}' is {done.change}"
    for step in done.steps:
        yield f"  {step.service}: {step.before} -> {step.after}"
    if done.change == "dry run":
        for operation in done.result.operations if done.result else ():
            yield f"  {operation.verb}: {operation.target}  ({operation.cause})"
        yield away_words(done.result.away) if done.result else ""
        return
    seen = done.recognised
    if seen:
        yield (
            f'  checked: the api recognises "{seen.subject}" of "{seen.service}" at '
            f"{seen.similarity:.3f}"
        )
    if done.put_back:
        yield f"  data: {done.put_back.words}"
    yield f"  backup of before: {done.backup}"
    if done.change == "upgraded":
        yield f"Back to the versions of before: cf rollback {name}"
    elif done.put_back:
        yield f"Once all is well, remove the database of before: cf data clean {name}"
