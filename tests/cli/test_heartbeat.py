"""A long step says that it goes on where no bar can move, and is still afterwards."""

from __future__ import annotations

import threading
import time

import pytest

from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output


class Heard(Output):
    """Keeps its notes; `enough` is set with the third."""

    def __init__(self) -> None:
        super().__init__(json_mode=True)
        self.notes: list[str] = []
        self.enough = threading.Event()

    def note(self, text: str, *, style: str | None = None) -> None:
        self.notes.append(text)
        if len(self.notes) > 2:
            self.enough.set()


def test_a_long_step_prints_lines_until_it_ends() -> None:
    out = Heard()
    with Heartbeat(out, pause_s=0.01).progress("preparing model m", None):
        assert out.enough.wait(30)
    assert out.notes[0] == "preparing model m ..."
    assert "preparing model m: " in out.notes[1]
    told = len(out.notes)
    time.sleep(0.05)
    assert len(out.notes) == told


def test_a_step_that_fails_is_still_too() -> None:
    out = Heard()
    with pytest.raises(ValueError, match="x"), Heartbeat(out, pause_s=0.01).progress("step"):
        raise ValueError("x")
    told = len(out.notes)
    time.sleep(0.05)
    assert len(out.notes) == told


def test_a_short_step_is_one_line() -> None:
    out = Heard()
    with Heartbeat(out).progress("step", 2) as advance:
        advance(1)
    assert out.notes == ["step ..."]
