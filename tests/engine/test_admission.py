"""The gate: what runs, what waits, what is refused, and that nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_engine.admission import Busy, ClientDisconnected, Gate, Permit
from compreface_engine.budget import MAX_OVERTAKES, Budget, Share
from compreface_engine.core.errors import ConfigurationError, MemoryInUse, TooMuchMemory


def new_gate(
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


async def disconnects() -> None:
    return None


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@contextmanager
def refused(cause: str) -> Iterator[None]:
    """Expects the refusal with that cause."""
    with pytest.raises(Busy) as busy:
        yield
    assert busy.value.cause == cause


def is_full(gate: Gate) -> bool:
    return gate.full


def double(permit: Permit, number: int) -> int:
    return 2 * number


def test_only_the_gate_issues_permits() -> None:
    with pytest.raises(TypeError):
        Permit(object(), new_gate(), Share(Budget()))


def test_with_a_free_worker_the_work_runs_at_once_in_a_thread() -> None:
    async def scene() -> None:
        gate = new_gate()
        permit = await gate.permit(stays)
        assert gate.running == 1
        loop_thread = threading.get_ident()
        thread = await permit.run(lambda _: threading.get_ident())
        await settle()
        assert thread != loop_thread
        assert gate.running == 0

    run(scene)


def test_a_permit_allows_one_computation() -> None:
    async def scene() -> None:
        permit = await new_gate().permit(stays)
        assert await permit.run(double, 4) == 8
        with pytest.raises(RuntimeError):
            await permit.run(double, 4)

    run(scene)


def test_no_more_computations_run_than_the_concurrency_allows() -> None:
    async def scene() -> None:
        gate = new_gate(concurrency=2, queue=20)
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
            permit = await gate.permit(stays)
            await permit.run(work, number)

        await asyncio.gather(*(caller(number) for number in range(12)))
        await settle()
        assert most == 2
        assert sorted(order) == list(range(12))
        assert (gate.running, gate.waiting) == (0, 0)

    run(scene)


def test_a_full_queue_refuses_at_once_with_retry_after() -> None:
    async def scene() -> None:
        gate = new_gate(queue=1)
        permit = await gate.permit(stays)
        waiting = asyncio.ensure_future(gate.permit(stays))
        await settle()
        assert is_full(gate)
        with pytest.raises(Busy) as caught:
            gate.admit()
        assert caught.value.retry_after >= 1
        with pytest.raises(Busy):
            await gate.permit(stays)
        permit.release()
        (await waiting).release()
        assert not is_full(gate)
        gate.admit()

    run(scene)


def test_a_request_waits_no_longer_than_max_wait_s() -> None:
    async def scene() -> None:
        gate = new_gate(wait=0.01)
        permit = await gate.permit(stays)
        with refused("wait"):
            await gate.permit(stays)
        assert gate.waiting == 0
        permit.release()
        (await gate.permit(stays)).release()

    run(scene)


def test_a_disconnected_client_is_removed_from_the_queue() -> None:
    async def scene() -> None:
        gate = new_gate()
        permit = await gate.permit(stays)
        left = asyncio.Event()

        async def until_disconnected() -> None:
            await left.wait()

        waiting = asyncio.ensure_future(gate.permit(until_disconnected))
        await settle()
        assert gate.waiting == 1
        left.set()
        with pytest.raises(ClientDisconnected):
            await waiting
        assert gate.waiting == 0
        permit.release()
        assert gate.running == 0

    run(scene)


def test_a_permit_for_a_client_that_just_disconnected_goes_to_the_following() -> None:
    async def scene() -> None:
        gate = new_gate()
        permit = await gate.permit(stays)
        left = asyncio.Event()

        async def until_disconnected() -> None:
            await left.wait()

        leaver = asyncio.ensure_future(gate.permit(until_disconnected))
        following = asyncio.ensure_future(gate.permit(stays))
        await settle()
        permit.release()
        left.set()
        with pytest.raises(ClientDisconnected):
            await leaver
        (await following).release()
        assert gate.running == 0

    run(scene)


def test_a_permit_lasts_until_its_thread_ends_even_when_its_task_is_cancelled() -> None:
    async def scene() -> None:
        gate = new_gate()
        go = threading.Event()
        permit = await gate.permit(stays)
        task = asyncio.ensure_future(permit.run(lambda _: go.wait(20)))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gate.running == 1
        go.set()
        while gate.running:
            await asyncio.sleep(0.001)

    run(scene)


def test_failed_work_releases_its_permit() -> None:
    async def scene() -> None:
        gate = new_gate()

        def fail(permit: Permit) -> None:
            raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011
            await (await gate.permit(stays)).run(fail)
        await settle()
        assert gate.running == 0

    run(scene)


def test_body_bytes_are_counted_on_arrival_and_released_at_the_end() -> None:
    async def scene() -> None:
        gate = new_gate(size=100)
        with gate.admit() as ticket:
            assert gate.bytes_held == 0, "an announced body holds nothing yet"
            await ticket.hold(60)
            await ticket.hold(40)
            assert gate.bytes_held == 100
        assert gate.bytes_held == 0

    run(scene)


def test_a_body_without_memory_waits_until_another_ends() -> None:
    async def scene() -> None:
        gate = new_gate(size=100, body=50)
        with gate.admit() as ahead, gate.admit() as other, gate.admit() as third:
            await ahead.hold(50)
            await other.hold(10)  # beyond the shared bytes: allowed for one ticket
            waits = asyncio.ensure_future(third.hold(1))
            await settle()
            assert not waits.done()
            await other.hold(40)
            assert gate.bytes_held == 100
            ahead.__exit__(None, None, None)
            await waits
            assert gate.bytes_held == 51
            assert third.waited_s > 0

    run(scene)


def test_memory_goes_to_the_earliest_request_first() -> None:
    """A body comes in pieces: one that has begun goes before one that has not."""

    async def scene() -> None:
        gate = new_gate(size=100, body=50)
        with (
            gate.admit() as first,
            gate.admit() as second,
            gate.admit() as full,
            gate.admit() as ahead,
        ):
            await first.hold(10)
            await full.hold(40)
            await ahead.hold(10)  # the one ticket that may exceed the shared bytes
            late = asyncio.ensure_future(second.hold(20))
            await settle()
            early = asyncio.ensure_future(first.hold(30))
            await settle()
            assert not late.done()
            assert not early.done()
            full.__exit__(None, None, None)  # memory for one of the two
            await settle()
            assert early.done()
            assert not late.done()
            ahead.__exit__(None, None, None)
            await late

    run(scene)


def test_incomplete_bodies_do_not_deadlock() -> None:
    async def scene() -> None:
        gate = new_gate(queue=50, size=300, body=100)
        most = 0

        async def caller() -> None:
            nonlocal most
            with gate.admit() as ticket:
                for _ in range(10):
                    await ticket.hold(10)
                    most = max(most, gate.bytes_held)
                    await asyncio.sleep(0)
                permit = await gate.permit(stays, waited_s=ticket.waited_s)
                await permit.run(double, 1)

        await asyncio.gather(*(caller() for _ in range(40)))
        assert gate.bytes_held == 0
        assert 200 < most <= 300

    run(scene)


def test_a_body_waits_for_memory_no_longer_than_max_wait_s_and_leaks_nothing() -> None:
    async def scene() -> None:
        gate = new_gate(size=100, body=50, wait=0.01)
        with gate.admit() as ahead, gate.admit() as beyond:
            await ahead.hold(50)
            await beyond.hold(50)
            with gate.admit() as ticket:
                with refused("memory"):
                    await ticket.hold(1)
                with refused("memory"):  # its time is over
                    await ticket.hold(1)
            assert gate.bytes_held == 100
        assert gate.bytes_held == 0

    run(scene)


def test_the_wait_for_body_memory_counts_towards_max_wait_s() -> None:
    async def scene() -> None:
        gate = new_gate(wait=20)
        permit = await gate.permit(stays)
        with refused("wait"):
            await gate.permit(stays, waited_s=20)
        permit.release()

    run(scene)


def test_closing_ends_the_wait_for_body_memory() -> None:
    async def scene() -> None:
        gate = new_gate(size=100, body=50)
        with gate.admit() as ahead, gate.admit() as beyond, gate.admit() as third:
            await ahead.hold(50)
            await beyond.hold(1)
            waits = asyncio.ensure_future(third.hold(1))
            await settle()
            gate.close()
            with refused("stopping"):
                await waits
            with refused("stopping"):
                await third.hold(1)

    run(scene)


@given(
    bodies=st.lists(st.lists(st.integers(1, 30), max_size=5), min_size=1, max_size=12),
    left=st.sets(st.integers(0, 11)),
)
def test_bodies_never_hold_more_than_max_bytes(bodies: list[list[int]], left: set[int]) -> None:
    """A body has up to 150 bytes, 400 are allowed; some clients disconnect while they wait."""

    async def scene() -> None:
        gate = new_gate(concurrency=2, queue=50, size=400, body=150)

        async def caller(pieces: list[int]) -> None:
            with gate.admit() as ticket:
                for piece in pieces:
                    await ticket.hold(piece)
                    assert gate.bytes_held <= 400
                    await asyncio.sleep(0)
                permit = await gate.permit(stays, waited_s=ticket.waited_s)
                await permit.run(double, 1)

        tasks = [asyncio.ensure_future(caller(pieces)) for pieces in bodies]
        await asyncio.sleep(0)
        for number in left & set(range(len(tasks))):
            tasks[number].cancel()
        for number, end in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
            assert end is None or (number in left and isinstance(end, asyncio.CancelledError))
        while gate.running:
            await asyncio.sleep(0.001)
        assert (gate.bytes_held, gate.waiting) == (0, 0)

    run(scene)


def test_closing_refuses_waiting_and_new_requests_and_lets_work_end() -> None:
    async def scene() -> None:
        gate = new_gate()
        go = threading.Event()
        permit = await gate.permit(stays)
        work: Awaitable[bool] = asyncio.ensure_future(permit.run(lambda _: go.wait(20)))
        waiting = asyncio.ensure_future(gate.permit(stays))
        await settle()
        gate.close()
        with refused("stopping"):
            await waiting
        with pytest.raises(Busy):
            gate.admit()
        with refused("stopping"):
            await gate.permit(stays)
        go.set()
        assert await work

    run(scene)


def test_a_computation_is_stuck_after_stuck_s_of_running_time() -> None:
    async def scene() -> None:
        gate = new_gate(concurrency=2)
        first = await gate.permit(stays)
        gate.age(40)
        second = await gate.permit(stays)
        first.description, second.description = "request a (JPEG, 7 bytes)", "request b"
        gate.age(20)
        assert gate.stuck == []
        gate.age(0.5)
        assert gate.stuck == [first]
        assert gate.describe_running().count("; ") == 1
        assert "request a (JPEG, 7 bytes) for 60 s" in gate.describe_running()
        assert "request b for 20 s" in gate.describe_running()
        gate.age(40)
        assert gate.stuck == [first, second]
        first.release()
        assert gate.stuck == [second]
        second.release()
        assert not gate.stuck
        assert not gate.describe_running()

    run(scene)


class _Pixels:
    """A large object that a computation holds."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the garbage collector, objects in reference cycles stay."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_failed_computation_frees_its_memory_without_garbage_collection() -> None:
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
        gate = new_gate()
        for _ in range(3):
            permit = await gate.permit(stays)
            try:
                await permit.run(work)
            except ValueError as error:
                # The traceback still shows the place and the cause.
                text = "".join(traceback.format_exception(error))
                assert "in inner" in text
                assert "the decoder's own" in text
                assert [pixels() for pixels in held] == [None] * len(held)
        assert [pixels() for pixels in held] == [None] * 3

    run(scene)


@pytest.mark.usefixtures("no_collector")
def test_a_failed_computation_leaves_no_reference_cycle() -> None:
    errors: list[weakref.ref[BaseException]] = []

    class Refused(Exception):
        pass

    def work(_: Permit) -> None:
        raise Refused

    async def scene() -> None:
        permit = await new_gate().permit(stays)
        try:
            await permit.run(work)
        except Refused as error:
            errors.append(weakref.ref(error))
        await settle()
        assert errors[0]() is None

    run(scene)


def large(permit: Permit, size: int, go: threading.Event) -> int:
    """Reserves `size` bytes and holds them until `go` is set."""
    permit.share.reserve(size)
    go.wait(10)
    return size


async def retrying(gate: Gate, size: int, go: threading.Event, number: int = 1) -> int:
    """As the application does: runs again with the memory that was in use the first time."""
    memory = 0
    while True:
        permit = await gate.permit(stays, memory=memory, number=number)
        try:
            return await permit.run(large, size, go)
        except MemoryInUse as in_use:
            memory = in_use.needed


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


def test_pictures_stay_within_the_budget_and_all_are_served() -> None:
    async def scene() -> None:
        gate = with_budget(100)
        most = 0

        def work(permit: Permit) -> None:
            nonlocal most
            permit.share.reserve(40)
            most = max(most, gate.budget.used)

        async def ask(number: int) -> None:
            memory = 0
            while True:
                permit = await gate.permit(stays, memory=memory, number=number)
                try:
                    return await permit.run(work)
                except MemoryInUse as in_use:
                    memory = in_use.needed

        await asyncio.gather(*(ask(number) for number in range(1, 15)))
        await settle()
        assert 40 <= most <= 100
        assert (gate.budget.used, gate.running, gate.waiting) == (0, 0, 0)

    run(scene)


def test_a_picture_beyond_the_whole_budget_is_refused() -> None:
    async def scene() -> None:
        gate = with_budget(100)
        with pytest.raises(TooMuchMemory) as refusal:
            await retrying(gate, 101, opened())
        assert (refusal.value.needed, refusal.value.budget) == (101, 100)
        assert await retrying(gate, 100, opened()) == 100
        await settle()
        assert gate.budget.used == 0

    run(scene)


def test_a_picture_that_waits_for_memory_frees_its_worker_and_is_overtaken_a_few_times() -> None:
    async def scene() -> None:
        gate = with_budget(100, concurrency=2)
        go = threading.Event()
        holder = asyncio.ensure_future(retrying(gate, 60, go))
        while gate.budget.used < 60:
            await asyncio.sleep(0.001)
        waits = asyncio.ensure_future(retrying(gate, 80, opened(), 2))
        while not gate._memory_queue:
            await asyncio.sleep(0.001)
        for number in range(MAX_OVERTAKES):
            assert await retrying(gate, 10, opened(), 3 + number) == 10
        late = asyncio.ensure_future(retrying(gate, 10, opened(), 50))
        while len(gate._memory_queue) < 2:
            await asyncio.sleep(0.001)
        assert not late.done()  # the large one is next now
        go.set()
        assert await waits == 80
        assert await late == 10
        assert await holder == 60
        await settle()
        assert (gate.budget.used, gate.running, gate.waiting) == (0, 0, 0)

    run(scene)


def test_computations_whose_memory_grows_do_not_deadlock() -> None:
    def grows(permit: Permit) -> int:
        permit.share.reserve(40)
        permit.share.reserve(70)
        return permit.share.held

    async def ask(gate: Gate, number: int) -> int:
        memory = 0
        while True:
            permit = await gate.permit(stays, memory=memory, number=number)
            try:
                return await permit.run(grows)
            except MemoryInUse as in_use:
                memory = in_use.needed

    async def scene() -> None:
        gate = with_budget(100)
        assert await asyncio.gather(*(ask(gate, number) for number in range(1, 9))) == [70] * 8

    run(scene)


def test_after_a_timeout_or_disconnect_in_the_memory_queue_the_following_is_served() -> None:
    async def scene() -> None:
        gate = with_budget(100, wait=0.2)
        go = threading.Event()
        holder = asyncio.ensure_future(retrying(gate, 60, go))
        while gate.budget.used < 60:
            await asyncio.sleep(0.001)
        with refused("pictures"):
            await retrying(gate, 80, opened(), 2)
        with pytest.raises(ClientDisconnected):
            await gate.permit(disconnects, memory=80, number=3)
        assert await retrying(gate, 40, opened(), 4) == 40
        go.set()
        await holder
        await settle()
        assert (gate.budget.used, gate.running, gate.waiting) == (0, 0, 0)

    run(scene)


def test_requests_that_wait_for_memory_count_in_the_queue_and_are_refused_at_closing() -> None:
    async def scene() -> None:
        gate = with_budget(100, queue=1)
        go = threading.Event()
        holder = asyncio.ensure_future(retrying(gate, 60, go))
        while gate.budget.used < 60:
            await asyncio.sleep(0.001)
        waits = asyncio.ensure_future(retrying(gate, 80, opened(), 2))
        while not gate.waiting:
            await asyncio.sleep(0.001)
        assert gate.full
        with refused("pictures"):
            await retrying(gate, 80, opened(), 3)
        gate.close()
        with refused("stopping"):
            await waits
        assert all(gate.budget.acquire(1) for _ in range(MAX_OVERTAKES + 2))  # nothing waits
        gate.budget.release(MAX_OVERTAKES + 2)
        go.set()
        await holder
        await settle()
        assert (gate.budget.used, gate.running, gate.waiting) == (0, 0, 0)

    run(scene)


def test_start_workers_starts_all_threads() -> None:
    before = set(threading.enumerate())
    new_gate(concurrency=3).start_workers()
    assert len(set(threading.enumerate()) - before) == 3


def test_a_thread_that_cannot_be_started_releases_the_permit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scene() -> None:
        gate = new_gate()
        permit = await gate.permit(stays)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await permit.run(double, 1)
        assert gate.running == 0
        with pytest.raises(ConfigurationError, match="CF_MAX_CONCURRENCY"):
            new_gate().start_workers()

    run(scene)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), st.integers(1, 5))
def test_pictures_of_any_sizes_are_served_and_release_their_memory(
    sizes: list[int], concurrency: int
) -> None:
    async def scene() -> None:
        gate = with_budget(100, concurrency=concurrency, queue=100)
        asked = [retrying(gate, size, opened(), number) for number, size in enumerate(sizes, 1)]
        assert await asyncio.gather(*asked) == sizes
        await settle()
        assert (gate.budget.used, gate.running, gate.waiting) == (0, 0, 0)
        gate._pool.shutdown()

    run(scene)
