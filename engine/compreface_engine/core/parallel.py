"""The worker pool: lets one request use the cores that no other request occupies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from compreface_engine.core.heap import share_one_heap

T = TypeVar("T")
R = TypeVar("R")


class ParallelMap(Protocol):
    """`map` that returns a list and may run the calls in parallel."""

    def __call__(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`work` of each item, in the items' order. The first error ends it and is raised."""
        ...


def serial_map(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """The `ParallelMap` that runs one call after the other in the calling thread."""
    return [work(item) for item in items]


def no_idle_workers() -> int:
    """The number of idle workers beside `serial_map`: 0."""
    return 0


def _no_check() -> None:
    """The check of work that is never interrupted."""


class WorkerPool:
    """A pool with one worker per core. Each request occupies one worker and may borrow idle ones
    to run parts of its work in parallel.

    Networks run on one thread each: several requests fill the cores without contending for the
    threads of one run, and a single request fills them with its parts.
    """

    def __init__(self, workers: int, check: Callable[[], None] = _no_check) -> None:
        """`workers` >= 1: the number of threads that may compute at the same time.

        `check` is called before each part of a `map`; the error it raises ends the map.
        """
        share_one_heap()
        self._check = check
        self._workers = workers
        self._occupied = 0
        self._borrowed = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(workers - 1, "worker") if workers > 1 else None

    @contextmanager
    def occupy(self) -> Iterator[None]:
        """Counts the calling thread as one occupied worker for the duration of the block."""
        with self._lock:
            self._occupied += 1
        try:
            yield
        finally:
            with self._lock:
                self._occupied -= 1

    def idle_workers(self) -> int:
        """The number of workers that are neither occupied by a request nor borrowed by one."""
        return max(0, self._workers - self._occupied - self._borrowed)

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """A `ParallelMap` over the calling thread and as many idle workers as there are."""

        def checked(item: T) -> R:
            self._check()
            return work(item)

        if self._pool is None:
            return serial_map(checked, items)
        with self._lock:
            helpers = max(0, min(self.idle_workers(), len(items) - 1))
            self._borrowed += helpers
        if not helpers:
            return serial_map(checked, items)
        parts = _Parts(checked, items)
        futures = [self._pool.submit(parts.drain) for _ in range(helpers)]
        try:
            parts.drain()
        finally:
            _wait_for_started(futures)
            with self._lock:
                self._borrowed -= helpers
        return parts.results()


class _Parts(Generic[T, R]):
    """The remaining items and the results so far of one `map`, shared by its threads."""

    def __init__(self, work: Callable[[T], R], items: Sequence[T]) -> None:
        self._work = work
        self._left = iter(enumerate(items))
        self._lock = threading.Lock()
        self._done: dict[int, R] = {}
        self._error: BaseException | None = None

    def drain(self) -> None:
        """Works until no item is left or one has failed."""
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
        """The results in the items' order. Raises the first error."""
        if self._error is not None:
            raise self._error
        return [self._done[index] for index in range(len(self._done))]


def _wait_for_started(futures: Sequence[Future[None]]) -> None:
    """Cancels the futures that have not started and waits for the others."""
    for future in futures:
        if not future.cancel():
            future.result()
