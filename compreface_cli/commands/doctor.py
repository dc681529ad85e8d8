"""`cf doctor`: checks this machine and what `cf` stores on it."""

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
        from compreface_cli.inspect.doctor import run
        from compreface_cli.terminal.output import Output

        out = Output(json_mode=as_json)
        with out.waiting("Checking this machine"):
            rows, code = run()

        def human(console: Console) -> None:
            from rich.text import Text

            width = max(len(row.check) for row in rows)
            for row in rows:
                line = Text(f"{row.level:<4}", style=_STYLES[row.level])
                line.append(f"  {row.check:<{width}}  {row.tagged}", style="default")
                console.print(line)
                if row.hint and row.level != "ok":
                    console.print(Text(f"{'':<{width + 8}}-> {row.hint}"))
            failed = sum(row.level == "fail" for row in rows)
            warnings = sum(row.level == "warn" for row in rows)
            summary = (
                f"{failed} failed, {warnings} warnings" if failed or warnings else "All is well."
            )
            console.print(Text(f"\n{summary}"))

        out.result({"rows": [row.as_dict() for row in rows], "exit_code": code}, human)
        if code:
            raise typer.Exit(code)
