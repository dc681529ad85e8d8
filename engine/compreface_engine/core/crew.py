"""Spreads one request over the cores that no other request uses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from compreface_engine.core.heap import share_one_heap

T = TypeVar("T")
R = TypeVar("R")


class Spread(Protocol):
    """Like `map`, but a list; the calls may run side by side."""

    def __call__(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`work` of each item, in the items' order; the first error ends it."""
        ...


def in_turn(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The plain `Spread`: one after the other."""
    return [work(item) for item in items]


def nobody() -> int:
    """As many idle hands as `in_turn` has."""
    return 0


def _go_on() -> None:
    """The check of work that nobody interrupts."""


class Crew:
    """As many hands as cores; every request is one, and takes the idle ones for parts of its work.

    Networks run on one thread each: several requests then fill the cores without taking turns
    inside a run, and a request that is alone fills them with its parts.
    """

    def __init__(self, hands: int, check: Callable[[], None] = _go_on) -> None:
        """`hands` >= 1: threads that may compute at once.

        `check` is called before each part of what is spread, and ends it by raising.
        """
        share_one_heap()
        self._check = check
        self._hands = hands
        self._busy = 0
        self._helping = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(hands - 1, "crew") if hands > 1 else None

    @contextmanager
    def aboard(self) -> Iterator[None]:
        """A request computes in the calling thread for as long as this lasts."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def idle(self) -> int:
        """Hands that no request uses now, neither its own nor for its parts."""
        return max(0, self._hands - self._busy - self._helping)

    def spread(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """See `Spread`; the calling thread works too."""

        def checked(item: T) -> R:
            self._check()
            return work(item)

        if self._pool is None:
            return in_turn(checked, items)
        with self._lock:
            idle = max(0, min(self.idle(), len(items) - 1))
            self._helping += idle
        if not idle:
            return in_turn(checked, items)
        parts = _Parts(checked, items)
        helpers = [self._pool.submit(parts.drain) for _ in range(idle)]
        try:
            parts.drain()
        finally:
            _settle(helpers)
            with self._lock:
                self._helping -= idle
        return parts.results()


class _Parts(Generic[T, R]):
    """The items still to do and the results so far, shared by all hands."""

    def __init__(self, work: Callable[[T], R], items: Sequence[T]) -> None:
        self._work = work
        self._left = iter(enumerate(items))
        self._lock = threading.Lock()
        self._done: dict[int, R] = {}
        self._error: BaseException | None = None

    def drain(self) -> None:
        """Works until nothing is left or something failed."""
        while True:
            with self._lock:
                part = None if self._error else next(self._left, None)
            if part is None:
                return
            index, item = part
            try:
                self._done[index] = self._work(item)
            except BaseException as error:
                with self._lock:
                    self._error = self._error or error
                return

    def results(self) -> list[R]:
        """In the items' order; raises the first error."""
        if self._error is not None:
            raise self._error
        return [self._done[index] for index in range(len(self._done))]


def _settle(helpers: Sequence[Future[None]]) -> None:
    """Waits for the helpers that began; the others have nothing left to do."""
    for helper in helpers:
        if not helper.cancel():
            helper.result()
