"""What import-linter does not see: code of the engine inside a string of `cf`."""

from __future__ import annotations

import re

from tests.shared import ROOT


def test_cf_holds_no_code_of_the_engine_not_even_in_a_string() -> None:
    """It runs modules of the engine's Python, in `compreface_cli/engine_python.py` alone."""
    foreign = re.compile(r"\b(import|from)\s+compreface_(engine|convert)\b")
    sources = [*(ROOT / "compreface_cli").rglob("*.py")]
    assert len(sources) > 100
    assert [str(path) for path in sources if foreign.search(path.read_text("utf-8"))] == []
