"""The simulation of a stack: closed forms of queueing theory, and what holds for any stack."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scaling.simulation import Choice, Stack, poisson, simulate

MEAN_S = 0.1
CONSTANT = Stack(1, [MEAN_S], queue=10**6, max_wait_s=1e6, choice="least")
CHANCE = random.Random(7)
EXPONENTIAL = replace(CONSTANT, service_s=[CHANCE.expovariate(1 / MEAN_S) for _ in range(20_000)])

STACKS = st.builds(
    Stack,
    engines=st.integers(1, 6),
    service_s=st.lists(st.floats(0.001, 0.5), min_size=1, max_size=4),
    workers=st.integers(1, 3),
    queue=st.integers(0, 20),
    max_wait_s=st.floats(0.01, 2),
    choice=st.sampled_from(("kept", "random", "least")),
    api_threads=st.integers(1, 30),
    api_cores=st.integers(1, 3),
    api_before_s=st.floats(0, 0.05),
    api_after_s=st.floats(0, 0.05),
    nginx_s=st.floats(0, 0.01),
    link_s=st.floats(0, 0.01),
)
LOADS = st.one_of(
    st.fixed_dictionaries(
        {"arrivals": st.lists(st.floats(0, 5), min_size=1, max_size=200).map(sorted)}
    ),
    st.fixed_dictionaries({"connections": st.integers(1, 40)}),
)


def mean_s(stack: Stack, busy: float, seed: int = 3) -> float:
    """The mean time of a request when each engine is busy for that share of the time."""
    mean = sum(stack.service_s) / len(stack.service_s)
    rate = busy * stack.engines * stack.workers / mean
    stream = poisson(rate, 40_500 * mean, seed)
    seen = simulate(
        stack, arrivals=stream, lasts_s=40_000 * mean, warm_up_s=500 * mean, seed=seed + 1
    )
    return sum(seen.times_s) / len(seen.times_s) / mean


@pytest.mark.parametrize("busy", [0.3, 0.5, 0.7])
def test_one_engine_with_exponential_times_is_m_m_1(busy: float) -> None:
    assert mean_s(EXPONENTIAL, busy) == pytest.approx(1 / (1 - busy), rel=0.08)


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
def test_one_engine_with_constant_times_is_m_d_1(busy: float) -> None:
    assert mean_s(CONSTANT, busy) == pytest.approx(1 + busy / (2 * (1 - busy)), rel=0.05)


def test_two_computations_of_one_engine_are_m_m_2() -> None:
    busy = 0.7
    assert mean_s(replace(EXPONENTIAL, workers=2), busy) == pytest.approx(
        1 / (1 - busy**2), rel=0.08
    )


def test_engines_chosen_at_random_are_queues_of_their_own() -> None:
    busy = 0.6
    several = replace(CONSTANT, engines=4, choice="random")
    assert mean_s(several, busy) == pytest.approx(1 + busy / (2 * (1 - busy)), rel=0.05)


@pytest.mark.parametrize("connections", [1, 3, 12])
@pytest.mark.parametrize("choice", ["kept", "random", "least"])
def test_connections_obey_littles_law(connections: int, choice: Choice) -> None:
    stack = replace(CONSTANT, engines=3, choice=choice, api_before_s=0.004, nginx_s=0.001)
    seen = simulate(stack, connections=connections, lasts_s=400)
    mean = sum(seen.times_s) / len(seen.times_s)
    assert seen.per_second * mean == pytest.approx(connections, rel=0.02)


def test_a_full_queue_refuses_and_erlangs_formula_says_how_often() -> None:
    """Without a queue one engine is M/G/1/1: the share refused is a / (1 + a)."""
    stack = replace(EXPONENTIAL, queue=0)
    seen = simulate(stack, arrivals=poisson(1.5 / MEAN_S, 4_000, 1), lasts_s=4_000)
    assert seen.refused / seen.sent == pytest.approx(1.5 / 2.5, rel=0.03)


def test_who_waits_too_long_is_refused() -> None:
    stack = replace(CONSTANT, max_wait_s=0.35)
    seen = simulate(stack, connections=8, lasts_s=60)
    assert seen.refused > 0
    assert max(seen.times_s) <= 0.35 + MEAN_S + 1e-9


def test_the_api_is_the_limit_once_it_computes_longer_than_the_engines() -> None:
    stack = replace(CONSTANT, engines=8, api_after_s=0.05, api_cores=2)
    seen = simulate(stack, connections=64, lasts_s=60)
    assert seen.per_second == pytest.approx(2 / 0.05, rel=0.02)


def test_threads_of_the_api_bound_what_the_engines_see() -> None:
    stack = replace(CONSTANT, engines=40, api_threads=10)
    seen = simulate(stack, connections=64, lasts_s=60)
    assert seen.per_second == pytest.approx(10 / MEAN_S, rel=0.02)


def test_few_kept_connections_leave_engines_idle_which_the_least_busy_never_does() -> None:
    kept, least = (
        simulate(replace(CONSTANT, engines=4, choice=choice), connections=4, lasts_s=60)
        for choice in ("kept", "least")
    )
    assert least.per_second == pytest.approx(40, rel=0.02)
    assert kept.per_second < 0.9 * least.per_second


@given(stack=STACKS, load=LOADS, seed=st.integers(0, 99))
def test_no_request_is_lost_and_no_time_is_negative(
    stack: Stack, load: dict[str, Any], seed: int
) -> None:
    seen = simulate(stack, lasts_s=4, warm_up_s=1, seed=seed, **load)
    assert seen.sent == seen.answered + seen.refused + seen.under_way
    assert seen.under_way >= 0
    assert len(seen.times_s) <= seen.answered <= sum(seen.by_engine)
    least = min(stack.service_s) + stack.api_before_s + stack.api_after_s
    assert all(taken >= least - 1e-9 for taken in seen.times_s)
    if "connections" in load:
        assert seen.under_way <= load["connections"]
    assert seen == simulate(stack, lasts_s=4, warm_up_s=1, seed=seed, **load)
    drained = simulate(stack, lasts_s=4, warm_up_s=1, seed=seed, drain=True, **load)
    assert drained.under_way == 0
    assert drained.sent == drained.answered + drained.refused


@given(
    stack=STACKS, connections=st.integers(1, 40), engines=st.integers(1, 5), seed=st.integers(0, 9)
)
def test_more_engines_never_lower_the_throughput(
    stack: Stack, connections: int, engines: int, seed: int
) -> None:
    """Of engines with constant times, of which the least busy is chosen, before any other limit.

    Chance may starve an engine otherwise, and a queue that a request enters twice, as that of the
    api's processor, may be slower with more servers behind it.
    """
    fewer = replace(
        stack,
        engines=engines,
        service_s=stack.service_s[:1],
        choice="least",
        queue=100,
        max_wait_s=1e6,
        api_before_s=0,
        api_after_s=0,
    )
    more = replace(fewer, engines=engines + 1)
    less, greater = (
        simulate(each, connections=connections, lasts_s=8, warm_up_s=2, seed=seed).answered
        for each in (fewer, more)
    )
    # Those under way at the end: at most one for each connection.
    assert greater >= less - connections


@pytest.mark.parametrize("load", [{}, {"arrivals": [1.0], "connections": 1}])
def test_a_load_is_one_of_the_two(load: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="arrivals"):
        simulate(CONSTANT, **load)
