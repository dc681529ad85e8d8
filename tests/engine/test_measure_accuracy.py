"""The tool that measures the catalogue's thresholds, on pairs with known results."""

from __future__ import annotations

import numpy as np

from tools.measure_accuracy import measure


def test_error_rates_include_pairs_at_the_threshold() -> None:
    same = np.array([0.9] * 8 + [0.4] * 2)
    other = np.array([0.1] * 8 + [0.6] * 2)
    measured = measure(np.concatenate([same, other]), np.arange(20) < 10)
    assert measured["pairs"] == 20
    assert measured["equal_error"] == 0.2
    assert 0.4 < measured["border"] <= 0.6
    assert measured["different_accepted_at_border"] == measured["same_refused_at_border"] == 0.2
    assert (measured["sure"], measured["different_accepted_at_sure"]) == (0.61, 0.0)
    assert measured["same_refused_at_sure"] == 0.2
    assert measured["best_accuracy"] == 0.9


def test_a_threshold_between_separable_pairs_is_the_midpoint() -> None:
    measured = measure(np.array([0.9, 0.8, 0.2, 0.4]), np.array([True, True, False, False]))
    assert (measured["border"], measured["sure"], measured["equal_error"]) == (0.6, 0.6, 0.0)
