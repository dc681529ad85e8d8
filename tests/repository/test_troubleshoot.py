"""docs/troubleshoot.md quotes messages that the code really has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.shared import ROOT

PAGE = (ROOT / "docs" / "troubleshoot.md").read_text("utf-8")
QUOTED = [
    quoted
    for cells in re.findall(r"^\| (?!symptom|---)(.*?) \|", PAGE, re.MULTILINE)
    for quoted in re.findall(r"`([^`]+)`", cells)
    if not quoted.startswith("cf ")
]


def messages() -> Iterator[str]:
    """Each string of the product, with a gap for each value that is put into it."""
    for folder in ("compreface_cli", "engine/compreface_engine"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                yield "...".join(
                    str(part.value) for part in parts if isinstance(part, ast.Constant)
                )


SOURCE = "\n".join(messages())


@pytest.mark.parametrize("quoted", QUOTED)
def test_the_quoted_message_is_in_the_code(quoted: str) -> None:
    pieces = [piece.strip("' ") for piece in re.split(r"\.\.\.|NAME", quoted)]
    assert any(pieces)
    for piece in pieces:
        assert piece in SOURCE, "docs/troubleshoot.md quotes a message that has changed"
