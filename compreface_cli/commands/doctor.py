"""`cf doctor`: is this machine fit, and is what `cf` keeps here whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    @app.command()
    def doctor(
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    ) -> None:
        """Check this machine: CPU, memory, disk, Docker, GPU, ports, models, environment.

        The exit code is that of the worst row; warnings count as 0.
        """
        from compreface_cli.inspect import doctor as flow
        from compreface_cli.terminal.output import Output

        out = Output(json_mode=as_json)
        with out.waiting("Looking at this machine"):
            rows, code = flow.run()

        def human(console: Console) -> None:
            from rich.text import Text

            width = max(len(row.check) for row in rows)
            for row in rows:
                line = Text(f"{row.level:<4}", style=_STYLES[row.level])
                line.append(f"  {row.check:<{width}}  {row.message}", style="default")
                console.print(line)
                if row.hint and row.level != "ok":
                    console.print(Text(f"{'':<{width + 8}}-> {row.hint}"))
            worst = [row for row in rows if row.level == "fail"]
            warned = sum(row.level == "warn" for row in rows)
            console.print(
                Text(
                    f"\n{len(worst)} failed, {warned} warnings"
                    if worst or warned
                    else "\nAll is well."
                )
            )

        out.result({"rows": [row.as_dict() for row in rows], "exit_code": code}, human)
        if code:
            raise typer.Exit(code)
