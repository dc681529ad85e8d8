"""Merges the batches of several requests into one run while the network is busy."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from compreface_engine.runtimes.base import Session

OnRun: TypeAlias = Callable[[float, int], None]
"""Called after a run with its seconds and rows."""


class Batcher:
    """A `Session` over a session whose inputs and outputs all have rows as their first axis.

    At most `runs` go in parallel. While fewer are under way a caller runs at once and by itself: a
    batch is never delayed to grow. Otherwise the caller queues, and the next run takes the rows of
    all queued callers that fit.
    """

    def __init__(
        self, session: Session, *, runs: int, rows: int, on_run: OnRun | None = None
    ) -> None:
        """`rows`: the most rows of one run; a larger request of one caller runs as it is."""
        self.inputs = session.inputs
        self.outputs = session.outputs
        self._session = session
        self._rows = rows
        self._on_run = on_run
        self._lock = threading.Lock()
        self._free = runs
        self._waiting: deque[_Job] = deque()

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        """See `Session`. An error of a run is raised in each caller whose rows were in it."""
        job = _Job(feeds, tuple(outputs or self.outputs))
        with self._lock:
            at_once = self._free > 0
            if at_once:
                self._free -= 1
                job.batch = [job]
            else:
                self._waiting.append(job)
        if not at_once:
            job.called.wait()
        if job.batch:
            try:
                self._compute(job.batch)
            finally:
                self._pass_on()
        return job.result()

    def _compute(self, jobs: Sequence[_Job]) -> None:
        try:
            feeds = {
                name: jobs[0].feeds[name]
                if len(jobs) == 1
                else np.concatenate([job.feeds[name] for job in jobs])
                for name in jobs[0].feeds
            }
            started = time.perf_counter()
            values = self._session.run(feeds, jobs[0].outputs)
            if self._on_run is not None:
                self._on_run(time.perf_counter() - started, sum(job.rows for job in jobs))
            start = 0
            for job in jobs:
                end = start + job.rows
                job.answers = [value[start:end] for value in values] if len(jobs) > 1 else values
                start = end
        except BaseException as error:
            for job in jobs:
                job.error = error
        for job in jobs[1:]:
            job.called.set()

    def _pass_on(self) -> None:
        """Starts the next batch: the first queued job, if any, and those behind it that fit."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            first = self._waiting.popleft()
            rows = first.rows
            batch, others = [first], deque[_Job]()
            for job in self._waiting:
                if job.kind == first.kind and rows + job.rows <= self._rows:
                    batch.append(job)
                    rows += job.rows
                else:
                    others.append(job)
            self._waiting = others
        first.batch = batch
        first.called.set()


class _Job:
    """One caller's rows and the outputs for them."""

    def __init__(self, feeds: Mapping[str, NDArray[Any]], outputs: tuple[str, ...]) -> None:
        self.feeds = feeds
        self.outputs = outputs
        self.rows = len(next(iter(feeds.values())))
        shapes = tuple((name, feeds[name].shape[1:], feeds[name].dtype) for name in sorted(feeds))
        self.kind = (shapes, outputs)  # rows of one kind can be computed together
        self.batch: list[_Job] = []  # the jobs that this one's thread computes, itself first
        self.called = threading.Event()
        self.answers: list[NDArray[Any]] | None = None
        self.error: BaseException | None = None

    def result(self) -> list[NDArray[Any]]:
        if self.error is not None:
            raise self.error
        if self.answers is None:
            raise RuntimeError("a batch ended without an answer for one of its callers")
        return self.answers
