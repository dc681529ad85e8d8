"""Batches across requests: nobody waits for company, everybody gets the own rows or the error."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import compreface_engine
from compreface_engine.runtimes.base import Session
from compreface_engine.runtimes.batcher import Batcher
from compreface_engine.runtimes.onnxruntime import OnnxSession

_RNET = Path(compreface_engine.__file__).parent / "embedded_models" / "mtcnn_rnet.onnx"


class HeldSession:
    """Doubles its input, run by run, each when `go` is set; counts its runs and their rows."""

    inputs: tuple[str, ...] = ("input",)
    outputs: tuple[str, ...] = ("double", "sum")

    def __init__(self) -> None:
        self.go = threading.Event()
        self.rows: list[int] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def run(
        self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[Any]]:
        values = feeds["input"]
        with self._lock:
            self.rows.append(len(values))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.go.wait(30)
        with self._lock:
            self.at_once -= 1
        if (values == 13).any():
            raise ArithmeticError("thirteen")
        named = {"double": values * 2, "sum": values.sum(axis=1)}
        return [named[name] for name in outputs or self.outputs]


def _rows(*values: float, width: int = 3) -> dict[str, NDArray[np.float32]]:
    return {"input": np.repeat(np.array(values, np.float32)[:, None], width, axis=1)}


def _until(condition: Any) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def _waiting(batcher: Batcher) -> int:
    return len(batcher._waiting)


def test_who_finds_a_lane_free_runs_at_once_and_alone() -> None:
    session = HeldSession()
    session.go.set()
    batcher: Session = Batcher(session, runs=1, rows=8)
    for value in (1, 2, 3):
        (double, total) = batcher.run(_rows(value))
        assert np.array_equal(double, _rows(2 * value)["input"])
        assert total.tolist() == [3 * value]
    assert session.rows == [1, 1, 1]


def test_who_waits_is_run_together_and_gets_the_own_rows() -> None:
    session = HeldSession()
    batcher = Batcher(session, runs=1, rows=8)
    requests = [(1,), (2, 3), (4,), (5, 6, 7), (8, 9, 10)]
    with ThreadPoolExecutor(len(requests)) as pool:
        runs = []
        for number, request in enumerate(requests):
            runs.append(pool.submit(batcher.run, _rows(*request), ["sum"]))
            _until(lambda number=number: session.rows and _waiting(batcher) == number)
        session.go.set()
        answers = [run.result(30)[0].tolist() for run in runs]
    assert answers == [[3 * value for value in request] for request in requests]
    assert session.rows == [1, 6, 3], "6 of the 9 rows that waited fit with the first: 2 + 1 + 3"


def test_no_more_runs_go_at_once_than_there_are_lanes() -> None:
    session = HeldSession()
    batcher = Batcher(session, runs=2, rows=2)
    with ThreadPoolExecutor(7) as pool:
        runs = [pool.submit(batcher.run, _rows(value)) for value in range(7)]
        _until(lambda: len(session.rows) == 2 and _waiting(batcher) == 5)
        session.go.set()
        assert [int(run.result(30)[0][0, 0]) for run in runs] == [0, 2, 4, 6, 8, 10, 12]
    assert session.most_at_once == 2
    assert len(session.rows) < 7


def test_rows_of_another_shape_or_for_other_outputs_run_apart() -> None:
    session = HeldSession()
    batcher = Batcher(session, runs=1, rows=8)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(batcher.run, _rows(1))
        _until(lambda: session.rows == [1])
        wide = [pool.submit(batcher.run, _rows(value, width=5)) for value in (2, 3)]
        others = [pool.submit(batcher.run, _rows(4), ["sum"]), pool.submit(batcher.run, _rows(5))]
        _until(lambda: _waiting(batcher) == 4)
        session.go.set()
        assert [run.result(30)[0].shape for run in (first, *wide)] == [(1, 3), (1, 5), (1, 5)]
        assert others[0].result(30)[0].tolist() == [12]
        assert others[1].result(30)[0].tolist() == [[10, 10, 10]]
    assert sorted(session.rows) == [1, 1, 1, 2]


def test_an_error_of_a_run_reaches_each_of_its_callers_and_nobody_else() -> None:
    session = HeldSession()
    batcher = Batcher(session, runs=1, rows=8)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.run, _rows(1))
        _until(lambda: session.rows == [1])
        unlucky = [pool.submit(batcher.run, _rows(value)) for value in (12, 13, 14)]
        _until(lambda: _waiting(batcher) == 3)
        session.go.set()
        assert first.result(30)[0].tolist() == [[2, 2, 2]]
        for run in unlucky:
            with pytest.raises(ArithmeticError, match="thirteen"):
                run.result(30)
    assert batcher.run(_rows(7))[1].tolist() == [21], "the lane was given back"


def test_a_batch_of_a_real_network_gives_what_each_gets_alone() -> None:
    session = OnnxSession(_RNET, threads=1)
    batcher = Batcher(session, runs=1, rows=32)
    random = np.random.default_rng(5)
    patches = [
        random.standard_normal((rows, 3, 24, 24), np.float32) for rows in (1, 2, 3, 1, 5) * 8
    ]
    alone = [session.run({"input": patch}) for patch in patches]
    with ThreadPoolExecutor(10) as pool:
        together = list(pool.map(lambda patch: batcher.run({"input": patch}), patches))
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_who_wants_to_know_is_told_the_rows_of_each_run() -> None:
    session, told = HeldSession(), list[int]()
    batcher = Batcher(session, runs=1, rows=8, on_run=lambda seconds, rows: told.append(rows))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batcher.run, _rows(1, 2))
        _until(lambda: session.rows == [2])
        others = [pool.submit(batcher.run, _rows(3)), pool.submit(batcher.run, _rows(4))]
        _until(lambda: _waiting(batcher) == 2)
        session.go.set()
        for one in (first, *others):
            one.result()
    assert told == session.rows == [2, 2]
