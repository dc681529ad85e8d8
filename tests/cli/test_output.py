"""What stands in names and texts is shown on a terminal, never obeyed by it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from compreface_cli.errors import CfError
from compreface_cli.terminal.output import Output
from compreface_cli.terminal.tables import print_trimmed

if TYPE_CHECKING:
    from rich.console import Console


CONTROLS = "\x1b[31m \r \x07 \x08 \x00 \x7f \x9b2J \u202e \u2066 \u2028"
SHOWN = "\\x1b[31m \\x0d \\x07 \\x08 \\x00 \\x7f \\x9b2J \\u202e \\u2066 \\u2028"


def test_control_characters_are_shown_and_do_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = Output()
    out.note(f"a\n\tb {CONTROLS}")
    out.warning(CONTROLS)
    out.error(CfError(CONTROLS, hint=CONTROLS))
    with out.progress(CONTROLS):
        pass
    seen = capsys.readouterr().err
    assert seen.startswith(f"a\n        b {SHOWN}\n")
    assert seen.count(SHOWN) == 5
    assert not set(seen) - {"\n"} & {chr(code) for code in (*range(32), *range(127, 160))}


def test_a_result_shows_control_characters_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.table import Table
    from rich.text import Text

    def draw(console: Console) -> None:
        console.print(CONTROLS, markup=False)
        console.print(Text("\x1b[31m"))
        table = Table("name", "text")
        table.add_row(CONTROLS, Text("\x9b2J"))
        print_trimmed(console, table)

    monkeypatch.setenv("NO_COLOR", "1")
    Output().result({}, draw)
    seen = capsys.readouterr().out
    assert seen.count(SHOWN) == 2
    assert seen.count("\\x1b") == 3
    assert seen.count("\\x9b") == 3
    assert not {"\x1b", "\x9b"} & set(seen)


def test_a_progress_bar_shows_control_characters_and_reads_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("FORCE_COLOR", "1")  # Rich takes it for a terminal
    monkeypatch.setenv("TERM", "xterm")
    with Output().progress("[red]a\x1b]0;x\x07.jpg", total=2) as advance:
        advance(2)
    assert "[red]a\\x1b]0;x\\x07.jpg" in capsys.readouterr().err


def test_colours_stay(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    Output().warning("\x1b[5m")
    assert capsys.readouterr().err == "\x1b[33mwarning: \\x1b[5m\x1b[0m\n"


def test_a_name_with_the_name_of_an_emoji_stays_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output().note("a:cat:.jpg")
    assert capsys.readouterr().err == "a:cat:.jpg\n"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Rich takes for a terminal of 120 columns."""
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_COLOR", "1")


def test_a_short_wait_is_not_shown(capsys: pytest.CaptureFixture[str], terminal: None) -> None:
    with Output().waiting("waiting for api"):
        pass
    assert capsys.readouterr().err == ""


def test_a_long_wait_is_a_spinner_with_its_time_and_leaves_no_line(
    capsys: pytest.CaptureFixture[str], terminal: None
) -> None:
    out = Output()
    with out.waiting("waiting for api", after_s=0.05) as say:
        time.sleep(0.5)
        out.note("something happened")
        say("waiting for fe")
        with out.progress("inside", total=2) as advance:
            advance(1)
            time.sleep(1.1)
    seen = capsys.readouterr().err
    assert re.search(r"waiting for api +0:00:00", seen)
    assert re.search(r"waiting for fe +0:00:01", seen)
    assert re.search(r"inside +\S+ +0:00:01", seen)
    assert "something happened\n" in seen
    assert "inside: 1 s\n" in seen
    assert seen.endswith("\x1b[2K\x1b[?25h\r"), "the line is gone, the cursor is back"


def test_a_long_wait_is_one_line_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(json_mode=True).waiting("waiting for api", after_s=0.05) as say:
        time.sleep(0.4)
        say("waiting for fe")
    assert capsys.readouterr() == ("", "waiting for api ...\n")


def test_a_wait_that_fails_ends_its_spinner(
    capsys: pytest.CaptureFixture[str], terminal: None
) -> None:
    out = Output()

    def fail() -> None:
        time.sleep(0.3)
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"), out.waiting("waiting", after_s=0.05):
        fail()
    capsys.readouterr()
    time.sleep(0.3)
    assert capsys.readouterr().err == ""


def test_the_time_is_shown_where_the_words_are_too_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: None
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    with Output().waiting("building " + "the image " * 9, after_s=0.05):
        time.sleep(0.4)
    assert re.search(r"building the image .*… +0:00:00", capsys.readouterr().err)
