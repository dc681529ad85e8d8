"""Every message against its golden file (`python -m tests.golden.messages` rewrites them)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from typing import Final

import pytest

from compreface_cli import errors
from tests.golden.messages import FOLDER, SOURCES, written
from tests.shared import ROOT

CLI = ROOT / "compreface_cli"
MESSAGES: Final = {
    **dict.fromkeys((name for name in vars(errors) if name.endswith("Error")), 0),
    **dict.fromkeys(("BadValue", "GiveUp", "Refused", "TryAgain", "Unfit", "Unusable"), 0),
    "WrongFile": 0,
    **dict.fromkeys(("misfit", "ok", "warn"), 1),
    "fail": 2,
    "Fault": 3,
}
"""By what is called: which argument is the message that a user reads."""
NOT_PROVOKED: Final = {
    "launchers/process.py: _end": "a process that survives SIGKILL",
    "models/transfer.py: _open": "a server with TLS",
}
"""The places whose message no case provokes, and what it would take."""


@pytest.mark.parametrize("source", SOURCES)
def test_messages_have_the_golden_wording(source: str) -> None:
    assert written(source) == (FOLDER / f"{source}.txt").read_text("utf-8")


def test_each_golden_file_has_its_cases() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SOURCES)


@cache
def golden() -> str:
    return "\n".join(path.read_text("utf-8") for path in FOLDER.iterdir())


def sites() -> Iterator[tuple[str, str]]:
    """Each place in the CLI that words an error or a finding, and the longest piece of its text."""
    for path in sorted(CLI.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                    at = MESSAGES.get(call.func.id, len(call.args))
                    piece = longest(call.args[at]) if at < len(call.args) else ""
                    if piece:
                        yield f"{path.relative_to(CLI)}: {function.name}", piece


def longest(argument: ast.expr) -> str:
    """The longest line of literal text in it; "" where it is made elsewhere."""
    texts = [node.value for node in ast.walk(argument) if isinstance(node, ast.Constant)]
    lines = [line.strip() for text in texts if isinstance(text, str) for line in text.splitlines()]
    return max(lines, key=len, default="")


def test_every_message_of_the_cli_has_a_case() -> None:
    missing = {place: piece for place, piece in sites() if piece not in golden()}
    assert missing.keys() == NOT_PROVOKED.keys(), missing
