"""When the soak allows a connection to break."""

from __future__ import annotations

import pytest

from bench.soak_rules import Downtime


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [10.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_without_a_kill_no_connection_may_break() -> None:
    assert not Downtime().covers(began=0.0)


def test_an_answer_that_was_sent_before_the_kill_does_not_end_the_downtime(
    clock: list[float],
) -> None:
    downtime = Downtime()
    downtime.kill()
    clock[0] = 11.0
    downtime.gone()
    downtime.answered(began=9.0)  # by the killed process, and read only now
    assert downtime.covers(began=12.0)


def test_it_ends_with_the_first_answer_of_the_next_process(clock: list[float]) -> None:
    downtime = Downtime()
    downtime.kill()
    downtime.gone()
    clock[0] = 14.0
    downtime.answered(began=13.0)
    clock[0] = 20.0
    downtime.answered(began=19.0)
    assert downtime.covers(began=13.5)
    assert not downtime.covers(began=14.5)
