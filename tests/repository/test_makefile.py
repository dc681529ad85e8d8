"""The gates of the Makefile."""

from __future__ import annotations

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
