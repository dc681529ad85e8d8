"""The gate: who computes, who waits, who is refused, and that nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_engine.admission import Busy, CallerLeft, Gate, Permit
from compreface_engine.budget import MOST_PASSES, Budget, Share
from compreface_engine.core.errors import ConfigurationError, NoRoom, TooMuchMemory


def gate(
    concurrency: int = 1, queue: int = 2, size: int = 1000, wait: float = 20.0, body: int = 0
) -> Gate:
    return Gate(
        concurrency=concurrency,
        max_queue=queue,
        max_bytes=size,
        max_wait_s=wait,
        max_body=body,
    )


async def stays() -> None:
    await asyncio.Event().wait()


async def leaves() -> None:
    return None


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def is_full(one: Gate) -> bool:
    return one.full


def double(permit: Permit, number: int) -> int:
    return 2 * number


def test_a_permit_cannot_be_made_outside_the_gate() -> None:
    with pytest.raises(TypeError):
        Permit(object(), gate(), Share(Budget()))


def test_a_free_worker_is_given_at_once_and_the_work_runs_in_a_thread() -> None:
    async def scene() -> None:
        one = gate()
        permit = await one.permit(stays)
        assert one.running == 1
        loop_thread = threading.get_ident()
        thread = await permit.run(lambda _: threading.get_ident())
        await settle()
        assert thread != loop_thread
        assert one.running == 0

    play(scene)


def test_a_permit_is_good_for_one_computation() -> None:
    async def scene() -> None:
        permit = await gate().permit(stays)
        assert await permit.run(double, 4) == 8
        with pytest.raises(RuntimeError):
            await permit.run(double, 4)

    play(scene)


def test_callers_wait_in_order_and_never_more_run_than_allowed() -> None:
    async def scene() -> None:
        one = gate(concurrency=2, queue=20)
        running, most, order = 0, 0, []
        lock = threading.Lock()

        def work(permit: Permit, number: int) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                order.append(number)
            threading.Event().wait(0.005)
            with lock:
                running -= 1

        async def caller(number: int) -> None:
            permit = await one.permit(stays)
            await permit.run(work, number)

        await asyncio.gather(*(caller(number) for number in range(12)))
        await settle()
        assert most == 2
        assert sorted(order) == list(range(12))
        assert (one.running, one.waiting) == (0, 0)

    play(scene)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def scene() -> None:
        one = gate(queue=1)
        permit = await one.permit(stays)
        waiting = asyncio.ensure_future(one.permit(stays))
        await settle()
        assert is_full(one)
        with pytest.raises(Busy) as caught:
            one.admit()
        assert caught.value.retry_after >= 1
        with pytest.raises(Busy):
            await one.permit(stays)
        permit.give_back()
        (await waiting).give_back()
        assert not is_full(one)
        one.admit()

    play(scene)


def test_a_caller_waits_no_longer_than_allowed() -> None:
    async def scene() -> None:
        one = gate(wait=0.01)
        permit = await one.permit(stays)
        with pytest.raises(Busy, match=r"within 0\.01 s"):
            await one.permit(stays)
        assert one.waiting == 0
        permit.give_back()
        (await one.permit(stays)).give_back()

    play(scene)


def test_a_caller_that_left_is_dropped_from_the_queue() -> None:
    async def scene() -> None:
        one = gate()
        permit = await one.permit(stays)
        left = asyncio.Event()

        async def until_gone() -> None:
            await left.wait()

        waiting = asyncio.ensure_future(one.permit(until_gone))
        await settle()
        assert one.waiting == 1
        left.set()
        with pytest.raises(CallerLeft):
            await waiting
        assert one.waiting == 0
        permit.give_back()
        assert one.running == 0

    play(scene)


def test_a_turn_given_to_a_caller_that_just_left_goes_to_the_next() -> None:
    async def scene() -> None:
        one = gate()
        permit = await one.permit(stays)
        left = asyncio.Event()

        async def until_gone() -> None:
            await left.wait()

        leaver = asyncio.ensure_future(one.permit(until_gone))
        next_one = asyncio.ensure_future(one.permit(stays))
        await settle()
        permit.give_back()
        left.set()
        with pytest.raises(CallerLeft):
            await leaver
        (await next_one).give_back()
        assert one.running == 0

    play(scene)


def test_the_permit_lasts_until_the_thread_ends_though_its_caller_was_cancelled() -> None:
    async def scene() -> None:
        one = gate()
        go = threading.Event()
        permit = await one.permit(stays)
        task = asyncio.ensure_future(permit.run(lambda _: go.wait(20)))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert one.running == 1
        go.set()
        while one.running:
            await asyncio.sleep(0.001)

    play(scene)


def test_work_that_fails_gives_its_permit_back() -> None:
    async def scene() -> None:
        one = gate()

        def fail(permit: Permit) -> None:
            raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011
            await (await one.permit(stays)).run(fail)
        await settle()
        assert one.running == 0

    play(scene)


def test_bytes_are_counted_as_they_arrive_and_returned_when_the_caller_is_done() -> None:
    async def scene() -> None:
        one = gate(size=100)
        with one.admit() as ticket:
            assert one.bytes_held == 0, "an announced body takes nothing yet"
            await ticket.hold(60)
            await ticket.hold(40)
            assert one.bytes_held == 100
        assert one.bytes_held == 0

    play(scene)


def test_a_body_without_room_waits_until_another_is_done() -> None:
    async def scene() -> None:
        one = gate(size=100, body=50)
        with one.admit() as ahead, one.admit() as other, one.admit() as third:
            await ahead.hold(50)
            await other.hold(10)  # beyond what is shared: it may go on, as the only one
            waits = asyncio.ensure_future(third.hold(1))
            await settle()
            assert not waits.done()
            await other.hold(40)
            assert one.bytes_held == 100
            ahead.__exit__(None, None, None)
            await waits
            assert one.bytes_held == 51
            assert third.waited_s > 0

    play(scene)


def test_who_came_first_is_given_room_first() -> None:
    """A body comes in pieces: one that is half here goes before one that has not begun."""

    async def scene() -> None:
        one = gate(size=100, body=50)
        with one.admit() as first, one.admit() as second, one.admit() as full, one.admit() as ahead:
            await first.hold(10)
            await full.hold(40)
            await ahead.hold(10)  # the only one that may go on
            late = asyncio.ensure_future(second.hold(20))
            await settle()
            early = asyncio.ensure_future(first.hold(30))
            await settle()
            assert not late.done()
            assert not early.done()
            full.__exit__(None, None, None)  # room for one of the two
            await settle()
            assert early.done()
            assert not late.done()
            ahead.__exit__(None, None, None)
            await late

    play(scene)


def test_bodies_that_are_half_here_do_not_wait_for_one_another_for_ever() -> None:
    async def scene() -> None:
        one = gate(queue=50, size=300, body=100)
        most = 0

        async def caller() -> None:
            nonlocal most
            with one.admit() as ticket:
                for _ in range(10):
                    await ticket.hold(10)
                    most = max(most, one.bytes_held)
                    await asyncio.sleep(0)
                permit = await one.permit(stays, waited_s=ticket.waited_s)
                await permit.run(double, 1)

        await asyncio.gather(*(caller() for _ in range(40)))
        assert one.bytes_held == 0
        assert 200 < most <= 300

    play(scene)


def test_a_body_waits_for_room_no_longer_than_allowed_and_leaves_nothing() -> None:
    async def scene() -> None:
        one = gate(size=100, body=50, wait=0.01)
        with one.admit() as ahead, one.admit() as beyond:
            await ahead.hold(50)
            await beyond.hold(50)
            with one.admit() as ticket:
                with pytest.raises(Busy, match="memory"):
                    await ticket.hold(1)
                with pytest.raises(Busy, match="memory"):  # its time is over
                    await ticket.hold(1)
            assert one.bytes_held == 100
        assert one.bytes_held == 0

    play(scene)


def test_what_a_body_waited_for_room_is_part_of_the_longest_wait() -> None:
    async def scene() -> None:
        one = gate(wait=20)
        permit = await one.permit(stays)
        with pytest.raises(Busy, match="no worker was free"):
            await one.permit(stays, waited_s=20)
        permit.give_back()

    play(scene)


def test_closing_ends_the_wait_for_room() -> None:
    async def scene() -> None:
        one = gate(size=100, body=50)
        with one.admit() as ahead, one.admit() as beyond, one.admit() as third:
            await ahead.hold(50)
            await beyond.hold(1)
            waits = asyncio.ensure_future(third.hold(1))
            await settle()
            one.close()
            with pytest.raises(Busy, match="stopping"):
                await waits
            with pytest.raises(Busy, match="stopping"):
                await third.hold(1)

    play(scene)


@given(
    bodies=st.lists(st.lists(st.integers(1, 30), max_size=5), min_size=1, max_size=12),
    left=st.sets(st.integers(0, 11)),
)
def test_whatever_comes_and_leaves_no_more_bytes_are_held_than_allowed(
    bodies: list[list[int]], left: set[int]
) -> None:
    """A body has up to 150 bytes, 400 are allowed; some callers leave while they wait."""

    async def scene() -> None:
        one = gate(concurrency=2, queue=50, size=400, body=150)

        async def caller(pieces: list[int]) -> None:
            with one.admit() as ticket:
                for piece in pieces:
                    await ticket.hold(piece)
                    assert one.bytes_held <= 400
                    await asyncio.sleep(0)
                permit = await one.permit(stays, waited_s=ticket.waited_s)
                await permit.run(double, 1)

        tasks = [asyncio.ensure_future(caller(pieces)) for pieces in bodies]
        await asyncio.sleep(0)
        for number in left & set(range(len(tasks))):
            tasks[number].cancel()
        for number, end in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            assert end is None or (number in left and isinstance(end, asyncio.CancelledError))
        while one.running:
            await asyncio.sleep(0.001)
        assert (one.bytes_held, one.waiting) == (0, 0)

    play(scene)


def test_closing_refuses_who_waits_and_who_comes_and_lets_work_end() -> None:
    async def scene() -> None:
        one = gate()
        go = threading.Event()
        permit = await one.permit(stays)
        work: Awaitable[bool] = asyncio.ensure_future(permit.run(lambda _: go.wait(20)))
        waiting = asyncio.ensure_future(one.permit(stays))
        await settle()
        one.close()
        with pytest.raises(Busy, match="stopping"):
            await waiting
        with pytest.raises(Busy):
            one.admit()
        with pytest.raises(Busy, match="stopping"):
            await one.permit(stays)
        go.set()
        assert await work

    play(scene)


def test_one_worker_that_never_ends_is_called_stuck_after_a_time_that_really_passed() -> None:
    async def scene() -> None:
        one = gate(concurrency=2)
        first = await one.permit(stays)
        one.age(40)
        second = await one.permit(stays)
        first.about, second.about = "request a (JPEG, 7 bytes)", "request b"
        one.age(20)
        assert one.stuck == []
        one.age(0.5)
        assert one.stuck == [first]
        assert one.at_work().count("; ") == 1
        assert "request a (JPEG, 7 bytes) for 60 s" in one.at_work()
        assert "request b for 20 s" in one.at_work()
        one.age(40)
        assert one.stuck == [first, second]
        first.give_back()
        assert one.stuck == [second]
        second.give_back()
        assert not one.stuck
        assert not one.at_work()

    play(scene)


class _Pixels:
    """Something large that a computation holds."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only references count: what a cycle holds stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_what_a_failed_computation_held_is_free_without_a_garbage_collection() -> None:
    held: list[weakref.ref[_Pixels]] = []

    def inner(pixels: _Pixels) -> None:
        try:
            raise KeyError("the decoder's own")
        except KeyError as error:
            raise ValueError("no face") from error

    def work(_: Permit) -> None:
        pixels = _Pixels()
        held.append(weakref.ref(pixels))
        inner(pixels)

    async def scene() -> None:
        one = gate()
        for _ in range(3):
            permit = await one.permit(stays)
            try:
                await permit.run(work)
            except ValueError as error:
                # The log still says where it failed, and what with.
                text = "".join(traceback.format_exception(error))
                assert "in inner" in text
                assert "the decoder's own" in text
                assert [one() for one in held] == [None] * len(held)
        assert [one() for one in held] == [None] * 3

    play(scene)


@pytest.mark.usefixtures("no_collector")
def test_a_failed_computation_leaves_no_cycle_of_its_own() -> None:
    errors: list[weakref.ref[BaseException]] = []

    class Refused(Exception):
        pass

    def work(_: Permit) -> None:
        raise Refused

    async def scene() -> None:
        permit = await gate().permit(stays)
        try:
            await permit.run(work)
        except Refused as error:
            errors.append(weakref.ref(error))
        await settle()
        assert errors[0]() is None

    play(scene)


def large(permit: Permit, size: int, go: threading.Event) -> int:
    """Takes `size` bytes and holds them until it may go on."""
    permit.share.reserve(size)
    go.wait(10)
    return size


async def patiently(one: Gate, size: int, go: threading.Event, number: int = 1) -> int:
    """As the application does: again, with room, where there was none."""
    room = 0
    while True:
        permit = await one.permit(stays, room=room, number=number)
        try:
            return await permit.run(large, size, go)
        except NoRoom as short:
            room = short.needed


def with_budget(size: int, concurrency: int = 4, queue: int = 20, wait: float = 20.0) -> Gate:
    return Gate(
        concurrency=concurrency,
        max_queue=queue,
        max_bytes=1000,
        max_wait_s=wait,
        budget=Budget(size),
    )


def opened() -> threading.Event:
    go = threading.Event()
    go.set()
    return go


def test_pictures_hold_no_more_than_the_budget_and_all_have_their_turn() -> None:
    async def scene() -> None:
        one = with_budget(100)
        most = 0

        def work(permit: Permit) -> None:
            nonlocal most
            permit.share.reserve(40)
            most = max(most, one.budget.taken)

        async def ask(number: int) -> None:
            room = 0
            while True:
                permit = await one.permit(stays, room=room, number=number)
                try:
                    return await permit.run(work)
                except NoRoom as short:
                    room = short.needed

        await asyncio.gather(*(ask(number) for number in range(1, 15)))
        await settle()
        assert 40 <= most <= 100
        assert (one.budget.taken, one.running, one.waiting) == (0, 0, 0)

    play(scene)


def test_what_can_never_fit_is_refused_for_good() -> None:
    async def scene() -> None:
        one = with_budget(100)
        with pytest.raises(TooMuchMemory, match="CF_MAX_MEMORY_BYTES"):
            await patiently(one, 101, opened())
        assert await patiently(one, 100, opened()) == 100
        await settle()
        assert one.budget.taken == 0

    play(scene)


def test_a_picture_without_room_leaves_its_worker_and_small_ones_pass_it_a_few_times() -> None:
    async def scene() -> None:
        one = with_budget(100, concurrency=2)
        go = threading.Event()
        holder = asyncio.ensure_future(patiently(one, 60, go))
        while one.budget.taken < 60:
            await asyncio.sleep(0.001)
        waits = asyncio.ensure_future(patiently(one, 80, opened(), 2))
        while not one._short:
            await asyncio.sleep(0.001)
        for number in range(MOST_PASSES):
            assert await patiently(one, 10, opened(), 3 + number) == 10
        late = asyncio.ensure_future(patiently(one, 10, opened(), 50))
        while len(one._short) < 2:
            await asyncio.sleep(0.001)
        assert not late.done()  # from now on the large one comes first
        go.set()
        assert await waits == 80
        assert await late == 10
        assert await holder == 60
        await settle()
        assert (one.budget.taken, one.running, one.waiting) == (0, 0, 0)

    play(scene)


def test_two_that_need_more_later_never_wait_for_each_other() -> None:
    def grows(permit: Permit) -> int:
        permit.share.reserve(40)
        permit.share.reserve(70)
        return permit.share.held

    async def ask(one: Gate, number: int) -> int:
        room = 0
        while True:
            permit = await one.permit(stays, room=room, number=number)
            try:
                return await permit.run(grows)
            except NoRoom as short:
                room = short.needed

    async def scene() -> None:
        one = with_budget(100)
        assert await asyncio.gather(*(ask(one, number) for number in range(1, 9))) == [70] * 8

    play(scene)


def test_who_finds_no_room_in_time_or_leaves_is_let_go_and_the_next_has_its_turn() -> None:
    async def scene() -> None:
        one = with_budget(100, wait=0.2)
        go = threading.Event()
        holder = asyncio.ensure_future(patiently(one, 60, go))
        while one.budget.taken < 60:
            await asyncio.sleep(0.001)
        with pytest.raises(Busy, match="other pictures") as busy:
            await patiently(one, 80, opened(), 2)
        assert busy.value.cause == "pictures"
        with pytest.raises(CallerLeft):
            await one.permit(leaves, room=80, number=3)
        assert await patiently(one, 40, opened(), 4) == 40
        go.set()
        await holder
        await settle()
        assert (one.budget.taken, one.running, one.waiting) == (0, 0, 0)

    play(scene)


def test_those_that_wait_for_room_count_in_the_queue_and_are_refused_at_the_end() -> None:
    async def scene() -> None:
        one = with_budget(100, queue=1)
        go = threading.Event()
        holder = asyncio.ensure_future(patiently(one, 60, go))
        while one.budget.taken < 60:
            await asyncio.sleep(0.001)
        waits = asyncio.ensure_future(patiently(one, 80, opened(), 2))
        while not one.waiting:
            await asyncio.sleep(0.001)
        assert one.full
        with pytest.raises(Busy, match="other pictures"):
            await patiently(one, 80, opened(), 3)
        one.close()
        with pytest.raises(Busy, match="stopping"):
            await waits
        assert all(one.budget.take(1) for _ in range(MOST_PASSES + 2))  # who runs is passed by none
        one.budget.give(MOST_PASSES + 2)
        go.set()
        await holder
        await settle()
        assert (one.budget.taken, one.running, one.waiting) == (0, 0, 0)

    play(scene)


def test_workers_are_threads_from_the_start() -> None:
    before = threading.active_count()
    gate(concurrency=3).start_workers()
    assert threading.active_count() == before + 3


def test_a_worker_that_cannot_be_started_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scene() -> None:
        one = gate()
        permit = await one.permit(stays)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await permit.run(double, 1)
        assert one.running == 0
        with pytest.raises(ConfigurationError, match="CF_MAX_CONCURRENCY"):
            gate().start_workers()

    play(scene)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), st.integers(1, 5))
def test_any_sizes_are_all_served_and_nothing_stays_taken(
    sizes: list[int], concurrency: int
) -> None:
    async def scene() -> None:
        one = with_budget(100, concurrency=concurrency, queue=100)
        asked = [patiently(one, size, opened(), number) for number, size in enumerate(sizes, 1)]
        assert await asyncio.gather(*asked) == sizes
        await settle()
        assert (one.budget.taken, one.running, one.waiting) == (0, 0, 0)
        one._pool.shutdown()

    play(scene)
