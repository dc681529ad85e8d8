"""What `cf` prints gets out: on a narrow encoding, a full disk, a closed file, to `head`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.names import assert_named
from tests.shared import ROOT

PRINTING = """
import sys
from compreface_cli import app, cli
from compreface_cli.terminal.output import Output
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


def run(*arguments: str, to: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments; `to` redirects its streams."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'"$@" {to}', "-", sys.executable, *arguments],
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


CF = ("-m", "compreface_cli.cli")
NO_ROOM = "error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("list-builds", "--json"),
        ("list-builds",),
        ("status",),
        ("--version",),
        ("show", "embedded"),
    ],
)
def test_a_full_disk_under_the_output_is_one_line(arguments: tuple[str, ...]) -> None:
    done = run(*CF, *arguments, to=">/dev/full")
    assert (done.returncode, done.stderr) == (1, NO_ROOM)


def test_a_full_disk_while_printing_help_is_not_reported_as_a_bug() -> None:
    done = run(*CF, "--help", to=">/dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert_named(done.stderr, "No space left on device")


def test_an_error_whose_document_cannot_be_written_is_reported_on_stderr() -> None:
    done = run(*CF, "show", "embeded", "--json", to=">/dev/full")
    assert done.returncode == 3
    assert_named(done.stderr, "'embedded'?")
    assert done.stderr.endswith(NO_ROOM)


@pytest.mark.parametrize("to", ["2>/dev/full", "2>&-", "2>&1 | exec 0<&-"])
def test_an_error_that_cannot_be_printed_keeps_its_exit_code(to: str) -> None:
    assert run(*CF, "show", "embeded", to=to).returncode == 3


def test_a_closed_output_is_no_error() -> None:
    done = run(*CF, "list-builds", to=">&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [("list-builds",), ("list-builds", "--json"), ("--version",)])
def test_a_reader_that_leaves_early_ends_the_command_quietly(arguments: tuple[str, ...]) -> None:
    done = run(*CF, *arguments, to="| exec 0<&-")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failure_keeps_its_code_when_its_reader_has_left() -> None:
    done = run(*CF, "show", "embeded", "--json", to="| exec 0<&-")
    assert (done.returncode, done.stderr) == (3, "")


LOGGING = """
import sys
from compreface_cli import app, cli
from compreface_cli.terminal.stdout import written
def make(arguments=None):
    def run(**how):
        with written():
            for turn in range(int(sys.argv[1])):
                print("x" * int(sys.argv[2]))
        return 0
    return run
app.make_app = make
cli.main()
"""


@pytest.mark.parametrize("size", [("1", "10"), ("2000", "10"), ("3", "9000")])
def test_lines_on_a_full_disk_end_in_one_line_of_error(size: tuple[str, str]) -> None:
    done = run("-c", LOGGING, *size, to=">/dev/full")
    assert (done.returncode, done.stderr) == (1, NO_ROOM)


@pytest.mark.parametrize(
    "to", ["| head -1", "| head -c 10", "| exec 0<&-", "> >(exec 0<&-; sleep 0.5)"]
)
@pytest.mark.parametrize("size", [("1", "10"), ("9999", "90")])
def test_the_exit_code_is_the_commands_own_however_much_of_it_is_read(
    to: str, size: tuple[str, str]
) -> None:
    done = run("-c", LOGGING, *size, to=to)  # with pipefail
    assert (done.returncode, done.stderr) == (0, "")
