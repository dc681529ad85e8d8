"""The worker pool: one request uses all idle workers, several share them, errors are raised."""

from __future__ import annotations

import threading
import time

import pytest

from compreface_engine.core.parallel import WorkerPool, serial_map


class Meeting:
    """Work that waits until as many threads as expected are in it."""

    def __init__(self, expected: int) -> None:
        self._barrier = threading.Barrier(expected)
        self.threads: set[int] = set()

    def __call__(self, item: int) -> int:
        self._barrier.wait(timeout=20)
        self.threads.add(threading.get_ident())
        return item * item


def test_a_single_request_uses_all_workers_and_keeps_the_order() -> None:
    pool = WorkerPool(3)
    meeting = Meeting(3)
    with pool.occupy():
        assert pool.map(meeting, range(6)) == [0, 1, 4, 9, 16, 25]
    assert len(meeting.threads) == 3
    assert threading.get_ident() in meeting.threads


@pytest.mark.parametrize("workers", [1, 2])
def test_without_an_idle_worker_the_caller_computes_alone(workers: int) -> None:
    pool = WorkerPool(workers)
    with pool.occupy(), pool.occupy():
        meeting = Meeting(1)
        assert pool.map(meeting, range(5)) == [0, 1, 4, 9, 16]
        assert meeting.threads == {threading.get_ident()}


def test_a_worker_is_idle_again_when_its_request_ends() -> None:
    pool = WorkerPool(2)
    with pool.occupy():
        with pool.occupy():
            pass
        assert pool.map(Meeting(2), range(2)) == [0, 1]


@pytest.mark.parametrize("items", [[], [7]])
def test_less_than_two_items_borrow_no_worker(items: list[int]) -> None:
    meeting = Meeting(1)
    assert WorkerPool(4).map(meeting, items) == serial_map(meeting, items)
    assert meeting.threads <= {threading.get_ident()}


def test_the_first_error_ends_the_map_and_is_raised() -> None:
    started = []

    def fail(item: int) -> int:
        started.append(item)
        if item == 3:
            raise ValueError("third")
        time.sleep(0.001)
        return item

    pool = WorkerPool(2)
    with pool.occupy(), pytest.raises(ValueError, match="third"):
        pool.map(fail, range(500))
    assert len(started) < 500
    assert pool.map(Meeting(2), range(2)) == [0, 1]


def test_borrowed_workers_that_are_busy_do_not_delay_another_request() -> None:
    pool = WorkerPool(2)
    release, inside = threading.Event(), threading.Event()

    def wait_inside(item: int) -> None:
        if threading.current_thread() is not other:
            inside.set()
            release.wait(timeout=20)
        else:
            inside.wait(timeout=20)

    other = threading.Thread(target=lambda: pool.map(wait_inside, [0, 1]))
    other.start()
    inside.wait(timeout=20)
    assert pool.map(lambda item: item, [1, 2, 3]) == [1, 2, 3]
    release.set()
    other.join(timeout=20)
    assert not other.is_alive()


def test_workers_are_idle_until_requests_occupy_them() -> None:
    pool = WorkerPool(2)
    with pool.occupy():
        assert pool.idle_workers() == 1
        with pool.occupy(), pool.occupy():
            assert pool.idle_workers() == 0
    assert pool.idle_workers() == 2
