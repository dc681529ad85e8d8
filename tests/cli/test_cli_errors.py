"""How a run ends: exit codes, errors as text and as JSON, and interruptions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from compreface_cli import app, cli
from compreface_cli.errors import ConflictError, InterruptedByUser, Interruption, PreflightError
from tests.cli.in_process import Cf, in_folder
from tests.cli.names import assert_named
from tests.shared import ROOT


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shw",), "No such command"),
        (("show", "--nothing"), "No such option"),
        (("render",), "Missing option"),
        (("render", "-o"), "requires an argument"),
        (("build", "--gpu-index", "x"), "gpu-index"),
    ],
)
def test_a_wrong_command_line_ends_with_2_as_text_and_as_json(
    cf: Cf, arguments: tuple[str, ...], words: str
) -> None:
    done = cf(*arguments)
    assert done.code == 2
    assert words in done.err
    assert done.out == ""
    if arguments[-1] != "-o":
        done = cf(*arguments, "--json")
        assert done.code == 2
        assert done.document["error"]["type"] == "UsageError"
        assert words in done.document["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list-builds", "--json=1"), "does not take a value"),
        (("list-builds", "--json=true", "--nothing"), "value"),
    ],
)
def test_a_usage_error_of_the_json_flag_is_reported_in_json(
    cf: Cf, arguments: tuple[str, ...], words: str
) -> None:
    done = cf(*arguments)
    assert (done.code, done.err) == (2, "")
    assert done.document["error"]["type"] == "UsageError"
    assert words in done.document["error"]["message"]


def test_an_argument_that_looks_like_the_json_flag_is_none(cf: Cf) -> None:
    done = cf("list-builds", "--", "--json")
    assert (done.code, done.out) == (2, "")
    assert "--json" in done.err


def test_no_command_is_a_question_for_help(cf: Cf) -> None:
    done = cf()
    assert done.code == 2
    assert "list-builds" in done.err


def test_help_and_version_end_with_0(cf: Cf) -> None:
    assert cf("--help").code == 0
    assert cf("show", "--help").code == 0
    assert cf("--version").out == cf("--version", "--version").out


def test_an_error_tells_what_why_and_what_next(cf: Cf) -> None:
    done = cf("show", "embeded")
    assert done.code == 3
    assert_named(done.err, "'embeded'", "'embedded'?")
    assert "cf list-builds" in done.err
    error = cf("show", "embeded", "--json").document["error"]
    assert error["exit_code"] == 3
    assert error["type"] == "ConfigurationError"
    assert "cf list-builds" in error["hint"]


@pytest.mark.parametrize("flags", [("--json",), ()])
def test_a_usage_error_names_the_help_of_its_command(cf: Cf, flags: tuple[str, ...]) -> None:
    done = cf("list-builds", "--for", "bogus", *flags)
    assert done.code == 2
    assert "cf list-builds --help" in (done.document["error"]["hint"] if flags else done.err)
    assert "Value error" not in done.out + done.err


def raising(error: BaseException) -> Callable[[object], object]:
    """A command line that ends with this error."""

    def make(arguments: object) -> object:
        def run(**how: object) -> None:
            raise error

        return run

    return make


def test_the_smallest_code_of_several_findings_counts(
    cf: Cf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "make_app", raising(PreflightError("two things", codes=(7, 4))))
    assert cf("up").code == 4


def test_details_stand_in_the_json(cf: Cf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "make_app", raising(ConflictError("x", details={"port": 1})))
    assert cf("up", "--json").document["error"]["details"] == {"port": 1}


def test_a_fault_of_cf_itself_is_one_line_unless_asked_for_more(
    cf: Cf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "make_app", raising(ZeroDivisionError("oh")))
    done = cf("up")
    assert done.code == 1
    assert "ZeroDivisionError: oh" in done.err
    assert "Traceback" not in done.err
    monkeypatch.setenv("CF_DEBUG", "1")
    assert "Traceback" in cf("up").err


def test_debug_is_a_flag(cf: Cf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CF_DEBUG", "")
    assert "Traceback" in cf("--debug", "show", "embeded").err


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), Interruption("stopped"), InterruptedByUser("stopped"), typer.Abort()],
)
def test_an_interruption_ends_with_130(
    cf: Cf, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(app, "make_app", raising(error))
    done = cf("up", "--json")
    assert done.code == 130
    assert done.document["error"]["type"] == "InterruptedByUser"


def test_an_interruption_that_typer_has_caught_ends_with_130(
    cf: Cf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "make_app", lambda arguments: lambda **how: 130)
    assert cf("up").code == 130


SLEEPING = """
import sys, time
import typer
from compreface_cli import app, cli
whole = app.make_app
def make(arguments=None):
    found = typer.Typer()
    @found.callback()
    def root() -> None: ...
    @found.command()
    def sleep() -> None:
        print("ready", flush=True)
        time.sleep(60)
    return found
app.make_app = make
sys.argv = ["cf", "sleep"]
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_with_130_and_one_line(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPING],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == ("interrupted\n" if number == signal.SIGINT else "interrupted by SIGTERM\n")


STARTING_THREADS = """
import sys, threading, time
from compreface_cli import app, cli
def make(arguments=None):
    def run(**how):
        print("ready", flush=True)
        while True:
            threading.Thread(target=time.sleep, args=(0.001,), daemon=True).start()
    return run
app.make_app = make
sys.argv = ["cf", "status"]
cli.main()
"""


@pytest.mark.parametrize("turn", range(8))
def test_a_signal_while_a_thread_starts_ends_with_one_line(turn: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTING_THREADS],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05 + 0.01 * turn)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted by SIGTERM\n"


def test_the_whole_app_is_there_for_tools() -> None:
    whole = cli.app
    assert len(whole.registered_commands) + len(whole.registered_groups) == len(app.COMMANDS)
    with pytest.raises(AttributeError):
        _ = cli.nothing
