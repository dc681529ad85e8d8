"""Two sessions of one network: the wide one only where it is worth it, and only while alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import compreface_engine
from compreface_engine.core.parallel import WorkerPool
from compreface_engine.models.inputs import InputSpec
from compreface_engine.models.prepared import PreparedModel
from compreface_engine.pipeline import Pipeline, PipelineConfig
from compreface_engine.runtimes import alone, factory
from compreface_engine.runtimes.alone import WideWhenAlone
from compreface_engine.runtimes.base import Concurrency
from compreface_engine.runtimes.choice import RuntimeRequest, reference_choice
from compreface_engine.runtimes.factory import SessionFactory
from compreface_engine.runtimes.onnxruntime import OnnxSession

MODELS = Path(compreface_engine.__file__).parent / "embedded_models"
CALCULATOR = MODELS / "mobilefacenet192_fp16w.onnx"


class Clock:
    """A time that passes only in the sessions' runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Timed:
    """A session that takes `cost` seconds for each row, and remembers what it ran."""

    inputs: tuple[str, ...] = ("rows",)
    outputs: tuple[str, ...] = ("found",)

    def __init__(self, clock: Clock, cost: float) -> None:
        self._clock = clock
        self._cost = cost
        self.ran: list[int] = []

    def run(
        self, feeds: Mapping[str, NDArray[np.float32]], outputs: Sequence[str] | None = None
    ) -> list[NDArray[np.float32]]:
        self.ran.append(len(feeds["rows"]))
        self._clock.now += self._cost * len(feeds["rows"])
        return [feeds["rows"]]


def rows(count: int) -> dict[str, NDArray[np.float32]]:
    return {"rows": np.zeros((count, 4), np.float32)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(alone, "time", clock)
    return clock


@pytest.mark.parametrize(("cost", "threads"), [(0.5, 4), (0.89, 4), (0.91, 1), (1.7, 1)])
def test_the_wide_session_is_kept_where_it_is_worth_it(
    clock: Clock, cost: float, threads: int
) -> None:
    narrow, wide = Timed(clock, 1.0), Timed(clock, cost)
    session = WideWhenAlone(narrow, wide, 4, lambda: 3)
    for count in (1, 3, 2):
        session.run(rows(count))
    assert (narrow.ran, wide.ran) == ([1, 3, 2], []), "narrow until it is decided"
    session.settle()
    assert session.threads == threads
    assert set(narrow.ran[3:]) == set(wide.ran) == {3}, "measured on the largest"
    before = len(narrow.ran), len(wide.ran)
    session.run(rows(1))
    after = len(narrow.ran) - before[0], len(wide.ran) - before[1]
    assert after == ((0, 1) if threads > 1 else (1, 0))


@pytest.mark.parametrize(("idle", "wide_runs"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)])
def test_only_a_run_that_is_alone_is_wide(clock: Clock, idle: int, wide_runs: int) -> None:
    narrow, wide = Timed(clock, 1.0), Timed(clock, 0.5)
    session = WideWhenAlone(narrow, wide, 4, lambda: idle)
    session.run(rows(1))
    session.settle()
    before = len(wide.ran)
    session.run(rows(1))
    assert len(wide.ran) - before == wide_runs


def test_a_network_that_never_ran_stays_narrow(clock: Clock) -> None:
    narrow, wide = Timed(clock, 1.0), Timed(clock, 0.1)
    session = WideWhenAlone(narrow, wide, 2, lambda: 1)
    session.settle()
    session.run(rows(1))
    assert (session.threads, narrow.ran, wide.ran) == (1, [1], [])


def test_parts_of_a_request_that_are_spread_are_not_alone() -> None:
    workers = WorkerPool(2)
    seen: list[int] = []
    with workers.occupy():
        assert workers.idle_workers() == 1
        workers.map(lambda _: seen.append(workers.idle_workers()), range(4))
        assert workers.idle_workers() == 1, "the helper is free again"
        with pytest.raises(ZeroDivisionError):
            workers.map(lambda one: 1 // one, [0, 0])
        assert workers.idle_workers() == 1
    assert seen == [0] * 4


@pytest.mark.parametrize(
    ("concurrency", "path", "two"),
    [
        (Concurrency(runs=2), CALCULATOR, True),
        (Concurrency(runs=1), CALCULATOR, False),
        (Concurrency(runs=2, threads=2), CALCULATOR, False),
        (Concurrency(runs=2, batching=True), CALCULATOR, False),
    ],
)
def test_a_second_session_is_opened_where_it_can_be_of_use(
    concurrency: Concurrency, path: Path, two: bool
) -> None:
    sessions = SessionFactory(RuntimeRequest(), concurrency, idle_workers=lambda: 1)
    assert isinstance(sessions.file(path), WideWhenAlone) is two
    sessions.settle()
    assert sessions.choice(path).threads_alone == 1, "it never ran"


def _two_runs(runtime: str = "onnxruntime") -> SessionFactory:
    return SessionFactory(RuntimeRequest(runtime), Concurrency(runs=2))


def test_a_large_network_has_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    size = CALCULATOR.stat().st_size
    monkeypatch.setattr(factory, "_SMALL", size)
    assert isinstance(_two_runs().file(CALCULATOR), WideWhenAlone)
    monkeypatch.setattr(factory, "_SMALL", size - 1)
    assert isinstance(_two_runs().file(CALCULATOR), OnnxSession)


def test_a_model_that_auto_left_in_onnx_runtime_has_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "choose", lambda *_, **__: reference_choice())
    model = PreparedModel("m", "calculator", CALCULATOR, InputSpec(112))
    assert isinstance(_two_runs("auto").model(model), WideWhenAlone)


def test_answers_are_the_same_to_the_last_bit_on_any_number_of_threads() -> None:
    faces = np.random.default_rng(5).standard_normal((3, 3, 112, 112), np.float32)
    one, two, five = (OnnxSession(CALCULATOR, threads=threads) for threads in (1, 2, 5))
    feeds = {one.inputs[0]: faces}
    (expected,) = one.run(feeds)
    for session in (two, five):
        assert np.array_equal(session.run(feeds)[0], expected)


def test_status_says_how_many_threads_a_run_gets_that_is_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alone, "WORTH_IT", float("inf"))
    runtimes = Pipeline.load(PipelineConfig(concurrency=2, cores=2)).runtimes
    assert {slug: one["threads_alone"] for slug, one in runtimes.items()} == dict.fromkeys(
        ("detector", "calculator", "age", "gender"), 2
    )
    runtimes = Pipeline.load(PipelineConfig()).runtimes
    assert {one["threads_alone"] for one in runtimes.values()} == {1}
