"""The interval of a mean of proportions: within [0, 1], Wilson's where it must be, and with the coverage it claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from probe.core.stats import mean_proportion, t_interval, wilson


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.integers(1, 10_000))
def test_it_lies_in_the_range_and_holds_the_mean(values: list[float], n: int) -> None:
    low, high = mean_proportion(values, n)
    mean = float(np.mean(values))
    assert 0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1


@given(st.integers(0, 50), st.integers(2, 6))
def test_equal_values_give_wilsons_interval_with_students_quantile(successes: int, k: int) -> None:
    low, high = mean_proportion([successes / 50] * k, 50)
    quantile, p = float(t.ppf(0.975, k - 1)), successes / 50
    centre = (p + quantile**2 / 100) / (1 + quantile**2 / 50)
    half = quantile / (1 + quantile**2 / 50) * math.sqrt(p * (1 - p) / 50 + quantile**2 / 10_000)
    assert (low, high) == pytest.approx((max(0, centre - half), min(1, centre + half)))


def test_many_equal_values_come_to_wilson() -> None:
    assert mean_proportion([0.3] * 5000, 40) == pytest.approx(wilson(12, 40), abs=1e-3)


def test_far_from_the_ends_it_is_about_the_t_interval() -> None:
    values = [0.48, 0.52, 0.50, 0.49, 0.53, 0.47, 0.51, 0.50]
    assert mean_proportion(values, 10**9) == pytest.approx(t_interval(values), abs=2e-3)


def test_one_value_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two"):
        mean_proportion([0.5], 10)


@pytest.mark.parametrize(("mean", "spread"), [(0.5, 0.1), (0.95, 0.03), (0.02, 0.01)])
@pytest.mark.parametrize("k", [3, 5])
def test_it_covers_the_true_mean_about_as_often_as_it_says(mean: float, spread: float, k: int) -> None:
    """Seeds whose true accuracies vary by a beta distribution, each measured on 359 images."""
    rng = np.random.default_rng(0)
    total = mean * (1 - mean) / spread**2 - 1
    hits = 0
    for _ in range(1000):
        accuracies = rng.beta(mean * total, (1 - mean) * total, k)
        low, high = mean_proportion((rng.binomial(359, accuracies) / 359).tolist(), 359)
        hits += low <= mean <= high
    assert hits >= 930
