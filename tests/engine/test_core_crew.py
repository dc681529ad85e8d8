"""A request alone takes every hand, several share them, and an error is the caller's."""

from __future__ import annotations

import threading
import time

import pytest

from compreface_engine.core.crew import Crew, in_turn


class Meeting:
    """Work that waits until as many threads as expected are in it."""

    def __init__(self, expected: int) -> None:
        self._barrier = threading.Barrier(expected)
        self.threads: set[int] = set()

    def __call__(self, item: int) -> int:
        self._barrier.wait(timeout=20)
        self.threads.add(threading.get_ident())
        return item * item


def test_a_request_alone_works_with_all_hands_and_keeps_the_order() -> None:
    crew = Crew(3)
    meeting = Meeting(3)
    with crew.aboard():
        assert crew.spread(meeting, range(6)) == [0, 1, 4, 9, 16, 25]
    assert len(meeting.threads) == 3
    assert threading.get_ident() in meeting.threads


@pytest.mark.parametrize("hands", [1, 2])
def test_with_no_idle_hand_the_caller_works_alone(hands: int) -> None:
    crew = Crew(hands)
    with crew.aboard(), crew.aboard():
        meeting = Meeting(1)
        assert crew.spread(meeting, range(5)) == [0, 1, 4, 9, 16]
        assert meeting.threads == {threading.get_ident()}


def test_hands_are_free_again_when_a_request_leaves() -> None:
    crew = Crew(2)
    with crew.aboard():
        with crew.aboard():
            pass
        assert crew.spread(Meeting(2), range(2)) == [0, 1]


@pytest.mark.parametrize("items", [[], [7]])
def test_little_work_needs_no_help(items: list[int]) -> None:
    meeting = Meeting(1)
    assert Crew(4).spread(meeting, items) == in_turn(meeting, items)
    assert meeting.threads <= {threading.get_ident()}


def test_the_first_error_reaches_the_caller_and_ends_the_work() -> None:
    started = []

    def fail(item: int) -> int:
        started.append(item)
        if item == 3:
            raise ValueError("third")
        time.sleep(0.001)
        return item

    crew = Crew(2)
    with crew.aboard(), pytest.raises(ValueError, match="third"):
        crew.spread(fail, range(500))
    assert len(started) < 500
    assert crew.spread(Meeting(2), range(2)) == [0, 1]


def test_helpers_that_are_busy_elsewhere_do_not_hold_a_request_up() -> None:
    crew = Crew(2)
    release, inside = threading.Event(), threading.Event()

    def occupy(item: int) -> None:
        if threading.current_thread() is not other:
            inside.set()
            release.wait(timeout=20)
        else:
            inside.wait(timeout=20)

    other = threading.Thread(target=lambda: crew.spread(occupy, [0, 1]))
    other.start()
    inside.wait(timeout=20)
    assert crew.spread(lambda item: item, [1, 2, 3]) == [1, 2, 3]
    release.set()
    other.join(timeout=20)
    assert not other.is_alive()


def test_hands_are_idle_until_a_request_is_aboard() -> None:
    crew = Crew(2)
    with crew.aboard():
        assert crew.idle() == 1
        with crew.aboard(), crew.aboard():
            assert crew.idle() == 0
    assert crew.idle() == 2
