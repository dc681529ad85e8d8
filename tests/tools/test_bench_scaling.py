"""The tables of docs/scaling.md: the simulation against recorded engines, and the arithmetic."""

from __future__ import annotations

import pytest

from bench import scaling
from bench.scaling import arithmetic, page, recorded
from bench.scaling.arithmetic import Figures, needs

DOCUMENT = recorded.read()
FIGURES = Figures.of(DOCUMENT)


def test_the_simulation_predicts_two_and_four_engines_from_one() -> None:
    assert {row.engines for row in recorded.beside(DOCUMENT)} == {1, 2, 4}
    assert all(turn["failed"] == 0 for turn in DOCUMENT["runs"])
    for row in scaling.chapter().rows:
        assert row.ok, row.line()


@pytest.mark.slow
def test_the_page_has_the_tables_of_today() -> None:
    """After a change of the model or a figure: `python -m bench.scaling --write`."""
    assert page.PAGE.read_text(encoding="utf-8") == page.text()


def test_needs_grow_with_the_stream_and_the_collection() -> None:
    one, ten = (needs(FIGURES, rate, 1_000) for rate in (1, 10))
    assert ten.engine_cores == pytest.approx(10 * one.engine_cores)
    larger = needs(FIGURES, 10, 100_000)
    assert larger.engine_cores == ten.engine_cores
    assert larger.api_cores > 20 * ten.api_cores
    assert needs(FIGURES, 10, 1_000, faces=5).engine_cores < 5 * ten.engine_cores


def test_no_part_is_busier_than_the_border() -> None:
    wanted = needs(FIGURES, 100, 10_000)
    assert 100 * FIGURES.engine_s() / wanted.engine_cores == pytest.approx(arithmetic.BUSY)
    assert 100 * FIGURES.api_s(10_000) / wanted.api_cores == pytest.approx(arithmetic.BUSY)
    assert wanted.api_cores <= wanted.instances * arithmetic.API_CORES
    assert wanted.machines(4) >= wanted.machines(8) >= wanted.machines(16) >= 1


def test_a_collection_beyond_the_measured_ones_is_refused() -> None:
    assert FIGURES.api_s(100_000) == pytest.approx(0.53)
    with pytest.raises(ValueError, match="measured"):
        FIGURES.api_s(100_001)


def test_engines_behind_one_api_answer_all_at_the_border() -> None:
    wanted, seen = arithmetic.carried_on(FIGURES, 16, 10_000)
    assert wanted.instances == 1
    assert seen.refused == 0
    assert seen.quantile(0.5) >= FIGURES.engine_s() + FIGURES.api_s(10_000)
