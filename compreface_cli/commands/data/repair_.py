"""`cf data repair`: heals collections with embeddings of several calculators."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from compreface_cli.data.repair import Repaired


def run(
    instance: Annotated[str, typer.Argument(help="Name of the instance.")],
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute", help="Re-compute them from their images; refuse where that fails."
        ),
    ] = False,
    move_out: Annotated[
        bool, typer.Option("--move-out", help="Move them out into the backup.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go on without a question.")] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show these embeddings, without changing anything."),
    ] = False,
    json_mode: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Heal collections with embeddings that the engine cannot compare.

    A backup is made first. With both flags or none, those with an image are re-computed and the
    rest moved out. The api is stopped meanwhile, and must recognise a stored face afterwards.
    """
    from compreface_cli.data.repair import repair

    out = Output(json_mode=json_mode)
    repaired = repair(
        instance, out, recompute=recompute, move_out=move_out, yes=yes, dry_run=dry_run
    )
    out.result(dataclasses.asdict(repaired), lambda console: _draw(repaired, console))


def _draw(repaired: Repaired, console: Console) -> None:
    from compreface_cli.data.repair import lines

    name = repaired.instance
    if repaired.change == "nothing":
        text = [f"all embeddings of '{name}' are of {repaired.calculator}"]
    elif repaired.change == "dry run":
        text = lines(repaired.foreign, repaired.calculator)
    else:
        text = [f"re-computed: {repaired.recomputed}, moved out: {len(repaired.moved_out)}"]
        text += [f"  moved out: {each.words}" for each in repaired.moved_out]
        text.append(f"The backup {repaired.backup} has them all as they were.")
        for service, seen in repaired.checked.items():
            if seen is None:
                text.append(f'"{service}" was not tried: it has no stored photograph')
            else:
                text.append(
                    f'"{service}" recognises "{seen.subject}" again, at {seen.similarity:.3f}'
                )
    for line in text:
        console.print(line, markup=False, highlight=False)
