"""The gate: every computation needs a permit, which only the gate issues; its queue is bounded."""

from __future__ import annotations

import asyncio
import math
import threading
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar, copy_context
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from compreface_engine.budget import Budget, Share
from compreface_engine.core.errors import ConfigurationError

T = TypeVar("T")
P = ParamSpec("P")

_FULL = "queue", "the queue is full"
_MEMORY = "memory", "the memory for request bodies is in use"
_PICTURES = "pictures", "the memory for pictures is in use"
_STOPPING = "stopping", "the engine is stopping"

_KEY = object()


class Busy(Exception):
    """A request is refused for want of memory or of a free worker.

    `cause` is the label of the metric: queue, memory, pictures, wait, out_of_memory or stopping.
    `retry_after` is an estimate in whole seconds.
    """

    def __init__(self, cause: str, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.cause = cause
        self.retry_after = retry_after


class ClientDisconnected(Exception):
    """The client closed the connection before it had its answer."""


class Ticket:
    """The place of one request; holds the bytes of its body until the `with` block ends."""

    __slots__ = ("_gate", "_held", "number", "waited_s")

    def __init__(self, gate: Gate, number: int) -> None:
        self._gate = gate
        self.number = number
        """Consecutive; memory goes to the lowest number first."""
        self._held = 0
        self.waited_s = 0.0
        """Seconds spent waiting for memory; they count towards the longest wait."""

    async def hold(self, count: int) -> None:
        """Adds `count` received bytes, after a wait while all bodies together hold too many.

        Reading nothing meanwhile applies back pressure to the client. Raises Busy where the
        longest wait is over, and when the gate closes.
        """
        await self._gate._acquire_bytes(self, count)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._gate._release_bytes(self)


class Permit:
    """The right to one computation, which only the gate issues.

    Uploads are parsed and computed under a permit: the handlers' uploads come from it.
    """

    __slots__ = ("_gate", "_spent", "description", "ran_s", "share", "since", "wanted")

    def __init__(self, key: object, gate: Gate, share: Share) -> None:
        if key is not _KEY:
            raise TypeError("permits are issued by Gate.permit() only")
        self._gate = gate
        self.share = share
        """The memory of this computation, released at its end."""
        self._spent = False
        self.since = time.monotonic()
        self.ran_s = 0.0
        """Seconds since then, without those in which the process was suspended."""
        self.description = ""
        """What is computed, for the log: the request's id, the picture's format and size."""
        self.wanted = True
        """False once the client has disconnected: the computation may stop at any point."""

    async def run(
        self, work: Callable[Concatenate[Permit, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs `work(permit, ...)` in a worker thread and returns its result.

        The permit ends with the thread, even where the awaiting task was cancelled before. The
        thread sees the task's context variables, and `stop_if_disconnected` works in it. Raises
        what `work` raises; after MemoryInUse, ask for a permit with that much memory and run again.
        """
        if self._spent:
            raise RuntimeError("a permit allows one computation")
        self._spent = True
        gate = self._gate
        context = copy_context()
        context.run(_current.set, self)

        def compute() -> T:
            try:
                return context.run(work, self, *args, **kwargs)
            except BaseException as error:
                _clear_frames(error)
                raise

        try:
            future = asyncio.get_running_loop().run_in_executor(gate._pool, compute)
        except RuntimeError:  # the thread could not be started
            gate._end(self)
            raise
        future.add_done_callback(lambda _: gate._end(self))
        try:
            return await asyncio.shield(future)
        finally:
            self.wanted = False
            del future  # An error raised here would form a cycle with the future that holds it.

    def describe(self, description: str) -> None:
        """Sets `description`; called in the worker thread before the computation begins."""
        self.description = description
        self._gate.on_described()

    def release(self) -> None:
        """Ends a permit that was not used."""
        if not self._spent:
            self._spent = True
            self._gate._end(self)


def _clear_frames(error: BaseException) -> None:
    """Frees the local variables (pixels, mostly) of a failed computation; its traceback stays."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        cause = pending.pop()
        if cause is not None and id(cause) not in seen:
            seen.add(id(cause))
            traceback.clear_frames(cause.__traceback__)
            pending += [cause.__cause__, cause.__context__]


_current: ContextVar[Permit | None] = ContextVar("permit", default=None)


def stop_if_disconnected() -> None:
    """Raises ClientDisconnected once the client is gone; called in a worker thread."""
    permit = _current.get()
    if permit is not None and not permit.wanted:
        raise ClientDisconnected


class Gate:
    """Lets `concurrency` computations run and `max_queue` requests wait.

    All bodies together hold at most `max_bytes`. Of these, `max_body` bytes (the size of the
    largest body) are reserved for one request at a time; otherwise incomplete bodies could wait
    for each other's memory for ever. All methods are called in the event loop's thread.
    """

    def __init__(
        self,
        *,
        concurrency: int,
        max_queue: int,
        max_bytes: int,
        max_wait_s: float,
        max_body: int = 0,
        budget: Budget | None = None,
        stuck_s: float = 60.0,
    ) -> None:
        self.concurrency = concurrency
        self.max_queue = max_queue
        self.max_bytes = max_bytes
        self._shared_bytes = max_bytes - max_body
        self.budget = budget or Budget()
        """The memory for pictures."""
        self.stopping = False
        """True once the engine stops: admitted requests are served, new ones should not come."""
        self.on_described: Callable[[], None] = lambda: None
        """Called in a worker thread when its permit has a new description."""
        self._max_wait_s = max_wait_s
        self._stuck_s = stuck_s
        self._bytes = 0
        self._body_queue: dict[asyncio.Future[None], tuple[Ticket, int]] = {}
        self._admitted = 0
        self._privileged: Ticket | None = None  # may hold more than shared bytes
        self._running: set[Permit] = set()
        self._worker_queue: dict[asyncio.Future[Permit], None] = {}
        self._memory_queue: dict[asyncio.Future[Permit], tuple[int, int]] = {}  # number, bytes
        self._mean_s = 0.1
        self._closed = False
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="compute")

    @property
    def waiting(self) -> int:
        """Requests that wait for a worker or for memory for their picture."""
        return len(self._worker_queue) + len(self._memory_queue)

    @property
    def running(self) -> int:
        """Computations that run now."""
        return len(self._running)

    @property
    def bytes_held(self) -> int:
        """Bytes of request bodies in memory."""
        return self._bytes

    @property
    def full(self) -> bool:
        """True when a new request would be refused."""
        occupied = len(self._running) >= self.concurrency or self.waiting > 0
        return self._closed or (occupied and self.waiting >= self.max_queue)

    @property
    def stuck(self) -> list[Permit]:
        """Computations that have run for more than `stuck_s` seconds, the longest first."""
        stuck = [permit for permit in self._running if permit.ran_s > self._stuck_s]
        return sorted(stuck, key=lambda permit: -permit.ran_s)

    def age(self, seconds: float) -> None:
        """Adds `seconds`, in which the process was not suspended, to the running computations."""
        for permit in self._running:
            permit.ran_s += seconds

    def describe_running(self) -> str:
        """The descriptions of all running computations, for the log. Thread-safe."""
        return "; ".join(
            f"{permit.description or 'a request'} for {permit.ran_s:.0f} s"
            for permit in list(self._running)
        )

    def start_workers(self) -> None:
        """Starts all threads now: later the address space for their stacks may be used up.

        Raises ConfigurationError where the system refuses one.
        """
        all_started = threading.Barrier(self.concurrency)
        try:
            started = [self._pool.submit(all_started.wait) for _ in range(self.concurrency)]
        except RuntimeError as error:
            all_started.abort()
            raise ConfigurationError(
                f"the system refused to start {self.concurrency} threads ({error}); "
                "set CF_MAX_CONCURRENCY to a lower number"
            ) from error
        wait(started)

    def admit(self) -> Ticket:
        """A ticket for a request whose body is not read yet. Raises Busy."""
        if self.full:
            raise self._busy(*(_STOPPING if self._closed else _FULL))
        self._admitted += 1
        return Ticket(self, self._admitted)

    async def permit(
        self,
        until_disconnected: Callable[[], Awaitable[None]],
        *,
        waited_s: float = 0.0,
        memory: int = 0,
        number: int = 0,
    ) -> Permit:
        """A permit, at once or after a wait. `until_disconnected` returns when the client is gone.

        `waited_s` seconds of the longest wait are already spent. `memory` bytes of the budget come
        with the permit, for a computation that raised MemoryInUse: of several such requests the
        lowest `number` is served first, and all of them before those whose pictures are not read
        yet. Raises Busy (queue full, waited too long, stopping) or ClientDisconnected.
        """
        if self._closed:
            raise self._busy(*_STOPPING)
        if not memory and len(self._running) < self.concurrency and not self._worker_queue:
            return self._start()
        if self.waiting >= self.max_queue:
            raise self._busy(*(_PICTURES if memory else _FULL))
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        if memory:
            self._enqueue_for_memory(turn, number, memory)
            self._serve()
        else:
            self._worker_queue[turn] = None
        disconnected = asyncio.ensure_future(until_disconnected())
        try:
            either: set[asyncio.Future[Any]] = {turn, disconnected}
            left_s = max(0.0, self._max_wait_s - waited_s)
            await asyncio.wait(either, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if disconnected.done():
                raise ClientDisconnected
            if turn.done():
                return turn.result()
            if memory:
                reason = f"{_PICTURES[1]} and was not free within {self._max_wait_s:g} s"
                raise self._busy(_PICTURES[0], reason)
            raise self._busy("wait", f"no worker was free within {self._max_wait_s:g} s")
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                turn.result().release()
            raise
        finally:
            self._worker_queue.pop(turn, None)
            if turn in self._memory_queue:
                self._dequeue_from_memory(turn)
                self._serve()
            turn.cancel()
            disconnected.cancel()

    def close(self) -> None:
        """Refuses waiting and new requests; running computations continue."""
        self.stopping = self._closed = True
        queues = self._worker_queue, self._memory_queue, self._body_queue
        waiting: list[asyncio.Future[Any]] = [turn for queue in queues for turn in queue]
        for turn in waiting:
            if not turn.done():
                turn.set_exception(self._busy(*_STOPPING))
        self._worker_queue.clear()
        self._memory_queue.clear()
        self.budget.set_waiting(False)
        self._body_queue.clear()

    def _start(self, held: int = 0) -> Permit:
        permit = Permit(_KEY, self, Share(self.budget, held))
        self._running.add(permit)
        return permit

    def _end(self, permit: Permit) -> None:
        self._running.discard(permit)
        permit.share.release()
        self._mean_s += 0.1 * (time.monotonic() - permit.since - self._mean_s)
        self._serve()

    def _serve(self) -> None:
        """Issues the permits that can be issued now, first to requests that wait for memory."""
        for turn in list(self._memory_queue):
            if len(self._running) >= self.concurrency:
                return
            memory = self._memory_queue[turn][1]
            first = turn is next(iter(self._memory_queue))
            if turn.done():
                self._dequeue_from_memory(turn)
            elif self.budget.acquire_first(memory) if first else self.budget.acquire(memory):
                self._dequeue_from_memory(turn)
                turn.set_result(self._start(memory))
        while self._worker_queue and len(self._running) < self.concurrency:
            turn = next(iter(self._worker_queue))
            del self._worker_queue[turn]
            if not turn.done():
                turn.set_result(self._start())

    def _enqueue_for_memory(self, turn: asyncio.Future[Permit], number: int, memory: int) -> None:
        first = next(iter(self._memory_queue), None)
        self._memory_queue[turn] = number, memory
        self._memory_queue = dict(sorted(self._memory_queue.items(), key=lambda item: item[1]))
        if next(iter(self._memory_queue)) is not first:
            self.budget.set_waiting(True)

    def _dequeue_from_memory(self, turn: asyncio.Future[Permit]) -> None:
        first = next(iter(self._memory_queue))
        del self._memory_queue[turn]
        if turn is first:
            self.budget.set_waiting(bool(self._memory_queue))

    async def _acquire_bytes(self, ticket: Ticket, count: int) -> None:
        if self._privileged is ticket or (not self._body_queue and self._fits(count)):
            self._grant(ticket, count)
            return
        if self._closed:
            raise self._busy(*_STOPPING)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._body_queue[turn] = ticket, count
        self._grant_waiting()
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self._max_wait_s - ticket.waited_s)):
                await turn
        except TimeoutError as error:
            raise self._busy(*_MEMORY) from error
        finally:
            self._body_queue.pop(turn, None)
            ticket.waited_s += time.monotonic() - began

    def _grant_waiting(self) -> None:
        while self._body_queue:
            turn = min(self._body_queue, key=lambda turn: self._body_queue[turn][0].number)
            ticket, count = self._body_queue[turn]
            if not self._fits(count) and self._privileged is not ticket:
                if self._privileged is not None:
                    return
                self._privileged = ticket
            del self._body_queue[turn]
            if not turn.done():
                self._grant(ticket, count)
                turn.set_result(None)

    def _fits(self, count: int) -> bool:
        shared = self._bytes - (self._privileged._held if self._privileged else 0)
        return shared + count <= self._shared_bytes

    def _grant(self, ticket: Ticket, count: int) -> None:
        self._bytes += count
        ticket._held += count

    def _release_bytes(self, ticket: Ticket) -> None:
        self._bytes -= ticket._held
        ticket._held = 0
        if self._privileged is ticket:
            self._privileged = None
        self._grant_waiting()

    def out_of_memory(self) -> Busy:
        """The refusal of a request whose computation could not allocate memory."""
        return self._busy("out_of_memory", "the engine has run out of memory")

    def _busy(self, cause: str, reason: str) -> Busy:
        ahead = (self.waiting + len(self._running)) / self.concurrency * self._mean_s
        return Busy(cause, reason, min(60, max(1, math.ceil(ahead))))
