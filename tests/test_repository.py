"""What surrounds the code: the Makefile's gates."""

from __future__ import annotations

import re
import subprocess

from tests.shared import ROOT


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_pure_module_that_is_not_there_fails_the_gate() -> None:
    assert make("check-pure").returncode == 0
    gone = make("check-pure", "PURE=compreface_cli/checks/*,compreface_cli/gone.py")
    assert gone.returncode == 2
    assert "compreface_cli/gone.py" in gone.stderr
    assert "checks" not in gone.stderr


def test_cf_holds_no_code_of_the_engine_not_even_in_a_string() -> None:
    """It runs modules of the engine's Python, in `compreface_cli/engine_python.py` alone."""
    foreign = re.compile(r"\b(import|from)\s+compreface_(engine|convert)\b")
    sources = [*(ROOT / "compreface_cli").rglob("*.py")]
    assert len(sources) > 100
    assert [str(path) for path in sources if foreign.search(path.read_text("utf-8"))] == []
