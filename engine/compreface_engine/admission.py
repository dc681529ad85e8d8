"""The gate: no computation without a permit, which only it makes, and a bounded queue."""

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
_MEMORY = "memory", "the bodies that wait take all the memory set aside for them"
_PICTURES = "pictures", "other pictures take all the memory set aside for them"
_STOPPING = "stopping", "the engine is stopping"

_KEY = object()


class Busy(Exception):
    """No room, or no free worker in time. `retry_after` is a guess in whole seconds.

    `cause` is one word for whoever counts: queue, memory, pictures, wait or stopping.
    """

    def __init__(self, cause: str, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.cause = cause
        self.retry_after = retry_after


class CallerLeft(Exception):
    """The caller hung up before it had its answer."""


class Ticket:
    """A caller's place: holds the bytes of its body until it is left (`with`)."""

    __slots__ = ("_gate", "_held", "number", "waited_s")

    def __init__(self, gate: Gate, number: int) -> None:
        self._gate = gate
        self.number = number
        """Who came first has the lower one, and is given room first."""
        self._held = 0
        self.waited_s = 0.0
        """Seconds it has waited for room; they count as part of the longest wait."""

    async def hold(self, count: int) -> None:
        """Counts `count` more bytes that arrived, after a wait while all bodies hold too many.

        Who reads nothing meanwhile makes the caller stop sending. Raises Busy when there was no
        room within the longest wait, and when the gate closes.
        """
        await self._gate._take_bytes(self, count)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._gate._give_bytes(self)


class Permit:
    """The right to compute once. Handlers demand one as a parameter; only the gate can make it."""

    __slots__ = ("_gate", "_spent", "about", "ran_s", "share", "since", "wanted")

    def __init__(self, key: object, gate: Gate, share: Share) -> None:
        if key is not _KEY:
            raise TypeError("a permit comes from Gate.permit(), nowhere else")
        self._gate = gate
        self.share = share
        """Memory for this computation, given back at its end."""
        self._spent = False
        self.since = time.monotonic()
        self.ran_s = 0.0
        """Seconds that passed since then, without those in which the process stood still."""
        self.about = ""
        """What it computes, for a line in the log: a request's id, a picture's format and size."""
        self.wanted = True
        """False once nobody waits for the result: the work may stop where it likes."""

    async def run(
        self, work: Callable[Concatenate[Permit, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`work(permit, ...)` in a worker thread; the permit ends with it, whoever left before.

        The thread sees the caller's context variables, and `stop_if_left` works in it. Raises what
        `work` raises; NoRoom: ask for a permit with that much room, and begin anew.
        """
        if self._spent:
            raise RuntimeError("a permit is good for one computation")
        self._spent = True
        gate = self._gate
        context = copy_context()
        context.run(_current.set, self)

        def compute() -> T:
            try:
                return context.run(work, self, *args, **kwargs)
            except BaseException as error:
                _let_go(error)
                raise

        try:
            future = asyncio.get_running_loop().run_in_executor(gate._pool, compute)
        except RuntimeError:  # no thread could be started
            gate._end(self)
            raise
        future.add_done_callback(lambda _: gate._end(self))
        try:
            return await asyncio.shield(future)
        finally:
            self.wanted = False
            del future  # An error that is raised here would hold the future that holds it.

    def describe(self, about: str) -> None:
        """Sets `about`; for the thread that computes, before it begins."""
        self.about = about
        self._gate.described()

    def give_back(self) -> None:
        """Ends a permit that was never used."""
        if not self._spent:
            self._spent = True
            self._gate._end(self)


def _let_go(error: BaseException) -> None:
    """Frees what the frames of a failed computation hold: pixels, above all. The lines stay."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            left += [one.__cause__, one.__context__]


_current: ContextVar[Permit | None] = ContextVar("permit", default=None)


def stop_if_left() -> None:
    """For a worker thread, between two stages. Raises CallerLeft when nobody waits any more."""
    permit = _current.get()
    if permit is not None and not permit.wanted:
        raise CallerLeft


class Gate:
    """Lets `concurrency` computations run and `max_queue` callers wait.

    All bodies together hold at most `max_bytes`. Of these, `max_body` (the largest body there may
    be) are kept for one caller at a time: many bodies that are half here and wait for one
    another's room would wait for ever. All methods are for the event loop's thread.
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
        """What pictures may take."""
        self.stopping = False
        """Set once the engine is on its way out: what is in is served, nobody should send more."""
        self.described: Callable[[], None] = lambda: None
        """Called in a worker thread once it knows what it computes."""
        self._max_wait_s = max_wait_s
        self._stuck_s = stuck_s
        self._bytes = 0
        self._line: dict[asyncio.Future[None], tuple[Ticket, int]] = {}
        self._admitted = 0
        self._ahead: Ticket | None = None  # may take bytes beyond the shared ones
        self._running: set[Permit] = set()
        self._waiting: dict[asyncio.Future[Permit], None] = {}
        self._short: dict[asyncio.Future[Permit], tuple[int, int]] = {}  # number, bytes
        self._mean_s = 0.1
        self._closed = False
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="compute")

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._short)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def bytes_held(self) -> int:
        return self._bytes

    @property
    def full(self) -> bool:
        """True when a new caller would be refused."""
        at_work = len(self._running) >= self.concurrency or self.waiting > 0
        return self._closed or (at_work and self.waiting >= self.max_queue)

    @property
    def stuck(self) -> list[Permit]:
        """Computations that have run for longer than any picture takes, the longest first."""
        found = [permit for permit in self._running if permit.ran_s > self._stuck_s]
        return sorted(found, key=lambda permit: -permit.ran_s)

    def age(self, seconds: float) -> None:
        """So much time has passed in which everything that is under way could run."""
        for permit in self._running:
            permit.ran_s += seconds

    def at_work(self) -> str:
        """What is computed now, in words for a log; for any thread."""
        return "; ".join(
            f"{one.about or 'a request'} for {one.ran_s:.0f} s" for one in list(self._running)
        )

    def start_workers(self) -> None:
        """Starts all threads now: later there may be no address space for a stack of theirs.

        Raises ConfigurationError.
        """
        all_here = threading.Barrier(self.concurrency)
        try:
            started = [self._pool.submit(all_here.wait) for _ in range(self.concurrency)]
        except RuntimeError as error:
            all_here.abort()
            raise ConfigurationError(
                f"the system does not let {self.concurrency} threads start ({error}); "
                "set CF_MAX_CONCURRENCY lower"
            ) from error
        wait(started)

    def admit(self) -> Ticket:
        """A place for a caller of whose body nothing is read yet. Raises Busy."""
        if self.full:
            raise self._busy(*(_STOPPING if self._closed else _FULL))
        self._admitted += 1
        return Ticket(self, self._admitted)

    async def permit(
        self,
        until_gone: Callable[[], Awaitable[None]],
        *,
        waited_s: float = 0.0,
        room: int = 0,
        number: int = 0,
    ) -> Permit:
        """A permit, at once or after a wait. `until_gone` returns when the caller has hung up.

        `waited_s` of the longest wait are over already. `room` bytes of the budget come with it,
        for a computation that found no room: of several such the one of the lowest `number` has
        its turn first, and all of them before those whose pictures nobody has seen yet. Raises
        Busy (queue full, waited too long, closing) or CallerLeft.
        """
        if self._closed:
            raise self._busy(*_STOPPING)
        if not room and len(self._running) < self.concurrency and not self._waiting:
            return self._start()
        if self.waiting >= self.max_queue:
            raise self._busy(*(_PICTURES if room else _FULL))
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        if room:
            self._join_the_short(turn, number, room)
            self._serve()
        else:
            self._waiting[turn] = None
        gone = asyncio.ensure_future(until_gone())
        try:
            either: set[asyncio.Future[Any]] = {turn, gone}
            left_s = max(0.0, self._max_wait_s - waited_s)
            await asyncio.wait(either, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise CallerLeft
            if turn.done():
                return turn.result()
            if room:
                raise self._busy(_PICTURES[0], f"{_PICTURES[1]}, for {self._max_wait_s:g} s")
            raise self._busy("wait", f"no worker was free within {self._max_wait_s:g} s")
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                turn.result().give_back()
            raise
        finally:
            self._waiting.pop(turn, None)
            if turn in self._short:
                self._leave_the_short(turn)
                self._serve()
            turn.cancel()
            gone.cancel()

    def close(self) -> None:
        """Refuses whoever waits and whoever comes; what runs goes on."""
        self.stopping = self._closed = True
        waiting: list[asyncio.Future[Any]] = [*self._waiting, *self._short, *self._line]
        for turn in waiting:
            if not turn.done():
                turn.set_exception(self._busy(*_STOPPING))
        self._waiting.clear()
        self._short.clear()
        self.budget.waited_for(False)
        self._line.clear()

    def _start(self, held: int = 0) -> Permit:
        permit = Permit(_KEY, self, Share(self.budget, held))
        self._running.add(permit)
        return permit

    def _end(self, permit: Permit) -> None:
        self._running.discard(permit)
        permit.share.give_back()
        self._mean_s += 0.1 * (time.monotonic() - permit.since - self._mean_s)
        self._serve()

    def _serve(self) -> None:
        """Starts whoever can start now: first those that know how much memory they need."""
        for turn in list(self._short):
            if len(self._running) >= self.concurrency:
                return
            room = self._short[turn][1]
            first = turn is next(iter(self._short))
            if turn.done():
                self._leave_the_short(turn)
            elif self.budget.take_first(room) if first else self.budget.take(room):
                self._leave_the_short(turn)
                turn.set_result(self._start(room))
        while self._waiting and len(self._running) < self.concurrency:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(self._start())

    def _join_the_short(self, turn: asyncio.Future[Permit], number: int, room: int) -> None:
        first = next(iter(self._short), None)
        self._short[turn] = number, room
        self._short = dict(sorted(self._short.items(), key=lambda one: one[1]))
        if next(iter(self._short)) is not first:
            self.budget.waited_for(True)

    def _leave_the_short(self, turn: asyncio.Future[Permit]) -> None:
        first = next(iter(self._short))
        del self._short[turn]
        if turn is first:
            self.budget.waited_for(bool(self._short))

    async def _take_bytes(self, ticket: Ticket, count: int) -> None:
        if self._ahead is ticket or (not self._line and self._fits(count)):
            self._grant(ticket, count)
            return
        if self._closed:
            raise self._busy(*_STOPPING)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line[turn] = ticket, count
        self._grant_in_turn()
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self._max_wait_s - ticket.waited_s)):
                await turn
        except TimeoutError as error:
            raise self._busy(*_MEMORY) from error
        finally:
            self._line.pop(turn, None)
            ticket.waited_s += time.monotonic() - began

    def _grant_in_turn(self) -> None:
        while self._line:
            turn = min(self._line, key=lambda one: self._line[one][0].number)
            ticket, count = self._line[turn]
            if not self._fits(count) and self._ahead is not ticket:
                if self._ahead is not None:
                    return
                self._ahead = ticket
            del self._line[turn]
            if not turn.done():
                self._grant(ticket, count)
                turn.set_result(None)

    def _fits(self, count: int) -> bool:
        beside = self._bytes - (self._ahead._held if self._ahead else 0)
        return beside + count <= self._shared_bytes

    def _grant(self, ticket: Ticket, count: int) -> None:
        self._bytes += count
        ticket._held += count

    def _give_bytes(self, ticket: Ticket) -> None:
        self._bytes -= ticket._held
        ticket._held = 0
        if self._ahead is ticket:
            self._ahead = None
        self._grant_in_turn()

    def out_of_memory(self) -> Busy:
        """What a caller is told whose computation found no memory, whatever the budget said."""
        return self._busy("out_of_memory", "the engine has run out of memory")

    def _busy(self, cause: str, reason: str) -> Busy:
        ahead = (self.waiting + len(self._running)) / self.concurrency * self._mean_s
        return Busy(cause, reason, min(60, max(1, math.ceil(ahead))))
