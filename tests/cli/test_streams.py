"""What `cf` prints gets out: on a narrow encoding, a full disk, a closed file, a pipe left early."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.shared import ROOT

PRINTING = """
import sys
from compreface_cli import app, cli
from compreface_cli.output import Output
def make(arguments=None):
    def run(**how):
        Output().note("caf\\xe9 \\u25cf")
        Output().result({}, lambda console: console.print("na\\xefve \\u25cf \\udce9"))
        return 0
    return run
app.make_app = make
sys.argv = ["cf", "up"]
cli.main()
"""


def run(*arguments: str, shell: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments; `shell` redirects its streams."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$@" {shell}', "-", sys.executable, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "DOCKER_HOST": "unix:///nowhere",
            "PYTHONUTF8": "0",
            "CF_DEBUG": "",
            **env,
        },
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_result_is_lost_to_the_encoding(encoding: str) -> None:
    done = run("-c", PRINTING, PYTHONIOENCODING=f"{encoding}:strict", PYTHONCOERCECLOCALE="0")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert "\\udce9" in done.stdout
