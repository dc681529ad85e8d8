"""The start time of `cf` against a bare Typer app."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import load

ROUNDS = 25
BARE = """
import typer
app = typer.Typer(name="bare", rich_markup_mode=None, pretty_exceptions_enable=False)
def show(value: bool) -> None:
    if value:
        print("bare 1.0")
        raise typer.Exit
@app.callback()
def root(version: bool = typer.Option(False, "--version", callback=show, is_eager=True)) -> None:
    pass
@app.command("list-builds")
def list_builds() -> None:
    print("nothing")
@app.command()
def up() -> None:
    print("up")
app()
"""
CF = "from compreface_cli.cli import main\nmain()\n"


@dataclass(frozen=True, slots=True)
class Case:
    """The same call of both programs, and the allowed ratio of `cf`."""

    name: str
    arguments: tuple[str, ...]
    allowed: float
    bare_arguments: tuple[str, ...] | None = None
    completion: bool = False


CASES = (
    Case("--version", ("--version",), 1.3),
    Case("--help", ("--help",), 1.3),
    Case("completion", (), 1.3, completion=True),
    Case("list-builds", ("list-builds",), 1.6),
)


def measure(rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """One row a case: medians in milliseconds, and the median of the rounds' ratios."""
    with tempfile.TemporaryDirectory() as folder:
        programs = {"bare": Path(folder) / "bare", "cf": Path(folder) / "cf"}
        programs["bare"].write_text(BARE)
        programs["cf"].write_text(CF)
        return [_case(case, programs, rounds) for case in CASES]


def _case(case: Case, programs: dict[str, Path], rounds: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {"bare": [], "cf": []}
    for number in range(rounds + 2):
        for name, program in programs.items():
            taken = _start(name, program, case)
            if number >= 2:  # the first ones write bytecode and warm the disk
                times[name].append(taken)
    ratios = [cf / bare for cf, bare in zip(times["cf"], times["bare"], strict=True)]
    ratio = statistics.median(ratios)
    return {
        "case": case.name,
        "cf_ms": statistics.median(times["cf"]) * 1000,
        "bare_ms": statistics.median(times["bare"]) * 1000,
        "ratio": ratio,
        "ratio_quartiles": load.spread(ratios),
        "allowed": case.allowed,
        "ok": ratio <= case.allowed,
    }


def _start(name: str, program: Path, case: Case) -> float:
    environment = dict(os.environ)
    if case.completion:
        words = {f"_{name.upper()}_COMPLETE": "complete_bash", "COMP_WORDS": f"{name} li"}
        environment.update(words, COMP_CWORD="1", _TYPER_COMPLETE_ARGS=f"{name} li")
    command: Sequence[str] = (sys.executable, str(program), *case.arguments)
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode or not done.stdout:
        raise RuntimeError(f"{name} {case.name} failed: {done.stderr.decode()[-500:]}")
    return taken
