"""The tool that measures the catalogue's borders, on pairs whose figures are known."""

from __future__ import annotations

import numpy as np

from tools.measure_accuracy import measure


def test_error_rates_include_pairs_at_the_threshold() -> None:
    same = np.array([0.9] * 8 + [0.4] * 2)
    other = np.array([0.1] * 8 + [0.6] * 2)
    found = measure(np.concatenate([same, other]), np.arange(20) < 10)
    assert found["pairs"] == 20
    assert found["equal_error"] == 0.2
    assert 0.4 < found["border"] <= 0.6
    assert found["different_accepted_at_border"] == found["same_refused_at_border"] == 0.2
    assert (found["sure"], found["different_accepted_at_sure"]) == (0.61, 0.0)
    assert found["same_refused_at_sure"] == 0.2
    assert found["best_accuracy"] == 0.9


def test_a_threshold_between_separable_pairs_is_the_midpoint() -> None:
    found = measure(np.array([0.9, 0.8, 0.2, 0.4]), np.array([True, True, False, False]))
    assert (found["border"], found["sure"], found["equal_error"]) == (0.6, 0.6, 0.0)
