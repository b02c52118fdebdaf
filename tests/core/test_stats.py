"""Intervals and tests against closed forms and brute force."""

from __future__ import annotations

import tracemalloc
from math import comb, isnan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

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


def test_newcombe_gives_the_published_interval() -> None:
    # Newcombe 1998, table II, case (a), method 10: 56/70 against 48/80 is 0.2 [0.0524, 0.3339].
    low, high = stats.newcombe(48, 80, 56, 70)
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert stats.newcombe(56, 70, 48, 80) == pytest.approx((-high, -low))
    assert stats.newcombe(0, 0, 3, 4) == (-1.0, 1.0)


def paired_by_hand(a: int, b: int, c: int, d: int) -> tuple[float, float]:
    """Newcombe's paired interval of first − second, written out from the 1998 paper."""
    n = a + b + c + d
    p, q = (a + b) / n, (a + c) / n
    (l2, u2), (l3, u3) = wilson_by_hand(a + b, n), wilson_by_hand(a + c, n)
    product = (a + b) * (c + d) * (a + c) * (b + d)
    top = a * d - b * c
    top = top - n / 2 if top > n / 2 else 0 if top >= 0 else top
    phi = top / sqrt(product) if product else 0
    down = (p - l2) ** 2 - 2 * phi * (p - l2) * (u3 - q) + (u3 - q) ** 2
    up = (u2 - p) ** 2 - 2 * phi * (u2 - p) * (q - l3) + (q - l3) ** 2
    return p - q - sqrt(max(down, 0)), p - q + sqrt(max(up, 0))


@given(st.integers(0, 40), st.integers(0, 20), st.integers(0, 20), st.integers(0, 40))
def test_the_paired_interval_is_the_closed_form(a: int, b: int, c: int, d: int) -> None:
    if a + b + c + d == 0:
        assert stats.newcombe_paired(a, b, c, d) == (-1.0, 1.0)
        return
    low, high = paired_by_hand(a, b, c, d)
    expected = (max(-1.0, -high), min(1.0, -low))
    assert stats.newcombe_paired(a, b, c, d) == pytest.approx(expected, abs=1e-9)


def test_fisher_is_the_hypergeometric_sum() -> None:
    # Fisher's tea: 3 of 4 against 1 of 4; tables at least as rare are 2 × (16 + 1) of 70.
    assert stats.fisher_exact(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert stats.fisher_exact(0, 0, 1, 4) == 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=20))
def test_spearman_is_scipys(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import spearmanr

    a, b = zip(*pairs, strict=True)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert np.isnan(stats.spearman(a, b))
        assert stats.spearman_p(a, b, 0, 50) == 1.0
    else:
        assert stats.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_spearmans_p_is_that_of_all_orders() -> None:
    from itertools import permutations

    a, b = [1.0, 2, 3, 4, 5, 6], [1.0, 3, 2, 4, 6, 5]
    every = [abs(stats.spearman(a, order)) for order in permutations(b)]
    exact = np.mean(np.array(every) >= abs(stats.spearman(a, b)) - 1e-12)
    assert stats.spearman_p(a, b, 0, 20_000) == pytest.approx(exact, abs=0.005)


def test_rank_correlations_need_pairs() -> None:
    with pytest.raises(ValueError, match="two pairs"):
        stats.spearman([1.0], [2.0])
    with pytest.raises(ValueError, match="two pairs"):
        stats.spearman([1.0, 2.0], [2.0])


def test_welch_is_scipys() -> None:
    from scipy.stats import sem, ttest_ind

    a, b = [0.91, 0.95, 0.93], [0.99, 0.98, 1.0, 0.96]
    found = stats.welch((float(np.mean(a)), float(sem(a)), 3), (float(np.mean(b)), float(sem(b)), 4))
    assert found is not None
    expected = ttest_ind(b, a, equal_var=False)
    interval = expected.confidence_interval()
    assert found[0] == pytest.approx(expected.pvalue, rel=1e-9)
    assert found[1] == pytest.approx((interval.low, interval.high), abs=1e-12)
    half = sem(a) * stats.t_quantile(3)
    assert stats.t_interval(a)[1] == pytest.approx(np.mean(a) + half)


@pytest.mark.parametrize(
    "first", [(0.5, 0.0, 3), (0.5, float("nan"), 3), (0.5, 0.1, 1)], ids=["no spread", "unknown", "one value"]
)
def test_welch_needs_a_spread(first: tuple[float, float, int]) -> None:
    assert stats.welch(first, (0.6, 0.0, 3)) is None


def test_the_bootstrap_of_a_mean_covers_it_even_with_few_values() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(400):
        low, high = stats.bootstrap_mean(rng.normal(2.0, 1.0, 8).tolist(), seed, resamples=1000)
        hits += low <= 2.0 <= high
    assert 0.90 <= hits / 400 <= 0.98  # 88% with plain percentiles
    data = rng.normal(0, 1, 500).tolist()
    np.testing.assert_allclose(stats.bootstrap_mean(data, 0), stats.t_interval(data), atol=0.01)
    assert stats.bootstrap_mean([1.0, 1.0], 0) == (1.0, 1.0)
    with pytest.raises(ValueError, match="two values"):
        stats.bootstrap_mean([1.0], 0)


def test_the_bootstrap_of_a_mean_of_many_values_needs_little_memory() -> None:
    data = np.random.default_rng(1).exponential(size=20_000)
    tracemalloc.start()
    try:
        low, high = stats.bootstrap_mean(data.tolist(), 3, resamples=500)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6  # all draws and their values at once: 160 MB
    places = np.random.default_rng(3).integers(0, data.size, (500, data.size))
    tail = norm.cdf(-t.ppf(0.975, data.size - 1) * sqrt(data.size / (data.size - 1)))
    assert (low, high) == pytest.approx(tuple(np.quantile(data[places].mean(1), [tail, 1 - tail])))


@settings(max_examples=60)
@given(st.lists(st.integers(1, 199), min_size=2, max_size=6).filter(lambda counts: len(set(counts)) > 1))
def test_the_error_of_a_mean_of_proportions_comes_back_from_its_interval(counts: list[int]) -> None:
    values = np.array(counts) / 200
    interval = stats.mean_proportion(values.tolist(), 200)
    error = stats.error_of_proportion(float(values.mean()), interval, len(values))
    spread = float(values.std(ddof=1)) / len(values) ** 0.5
    # With less spread than that of 200 images, the interval is that of 200 images.
    least = (float(values.mean() * (1 - values.mean())) / 200) ** 0.5
    assert error == pytest.approx(max(spread, least), rel=1e-6)


def test_an_interval_of_another_kind_has_no_such_error() -> None:
    assert isnan(stats.error_of_proportion(1.0, (1.0, 1.0), 3))
