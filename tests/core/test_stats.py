"""Intervals and tests against closed forms and brute force."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.core import stats

Z = 1.959963984540054


def wilson_by_hand(k: int, n: int) -> tuple[float, float]:
    p = k / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return centre - half, centre + half


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_the_closed_form(kn: tuple[int, int]) -> None:
    low, high = stats.wilson(*kn)
    expected = wilson_by_hand(*kn)
    assert (low, high) == pytest.approx(expected, abs=1e-9)
    assert 0 <= low <= kn[0] / kn[1] <= high <= 1


def test_wilson_of_nothing_says_nothing() -> None:
    assert stats.wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes among"):
        stats.wilson(k, n)


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_two_sided_sign_test(b: int, c: int) -> None:
    n = b + c
    tail = sum(comb(n, i) for i in range(min(b, c) + 1)) / 2**n if n else 1.0
    assert stats.mcnemar_exact(b, c) == pytest.approx(min(1.0, 2 * tail), rel=1e-9)


def test_t_interval_of_a_textbook_sample() -> None:
    # mean 3, s = sqrt(2.5), n = 5, t(0.975, 4) = 2.776445
    low, high = stats.t_interval([1, 2, 3, 4, 5])
    half = 2.7764451051977987 * sqrt(2.5) / sqrt(5)
    assert (low, high) == pytest.approx((3 - half, 3 + half))


def test_t_interval_needs_two() -> None:
    with pytest.raises(ValueError, match="two values"):
        stats.t_interval([1.0])


def test_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(60):
        low, high = stats.bootstrap(
            list(rng.normal(size=60)), lambda v: float(v.mean()), trial, resamples=400
        )
        hits += low <= 0 <= high
    assert 50 <= hits <= 60  # 95% of 60 is 57; fewer than 50 has probability below 0.001


def test_bootstrap_is_reproducible_and_refuses_nothing() -> None:
    data = [1.0, 5.0, 2.0, 8.0]
    first = stats.bootstrap(data, lambda v: float(np.median(v)), 7)
    assert first == stats.bootstrap(data, lambda v: float(np.median(v)), 7)
    with pytest.raises(ValueError, match="at least one"):
        stats.bootstrap([], lambda v: 0.0, 0)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04 → 0.06 (never less than the one before).
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.5]) == [1.0, 1.0]
    assert stats.holm([0.2]) == [0.2]
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_the_step_down_definition(p: list[float]) -> None:
    found = stats.holm(p)
    down = sorted(p)
    for value, corrected in zip(p, found, strict=True):
        # The largest of the steps up to this one: max over p_(j) ≤ p of min(1, (m − j) p_(j)).
        last = max(i for i, other in enumerate(down) if other == value)
        steps = [min(1.0, (len(p) - j) * down[j]) for j in range(last + 1)]
        assert corrected == pytest.approx(max(steps))
        assert value <= corrected <= 1
        assert corrected <= min(1.0, len(p) * value) + 1e-12, "no harsher than Bonferroni"
    ordered = [found[i] for i in sorted(range(len(p)), key=p.__getitem__)]
    assert ordered == sorted(ordered)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_sequential_test_rejects(p: list[float], alpha: float) -> None:
    rejected: set[int] = set()
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[place] * (len(p) - rank) > alpha:
            break
        rejected.add(place)
    assert {i for i, value in enumerate(stats.holm(p)) if value <= alpha} == rejected
