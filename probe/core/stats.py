"""Confidence intervals and tests, mostly based on scipy. All functions take and return plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1_000_000
"""How many values a bootstrap draws at once."""


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval for a proportion (Wilson 1927); (0, 1) when n is 0.

    Raises ValueError unless 0 ≤ successes ≤ n.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes among {n}")
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided exact McNemar p-value from the two discordant counts (1 when both are 0)."""
    from scipy.stats import binomtest

    n = only_first + only_second
    return 1.0 if n == 0 else float(binomtest(only_first, n, 0.5).pvalue)


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t-interval for the mean of at least two values; raises ValueError for fewer."""
    from scipy.stats import t

    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        raise ValueError("a t-interval needs at least two values")
    half = float(t.ppf((1 + confidence) / 2, data.size - 1) * data.std(ddof=1) / np.sqrt(data.size))
    return float(data.mean()) - half, float(data.mean()) + half


def mean_proportion(values: Sequence[float], n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the mean of at least two proportions, each of the same ``n`` items; within [0, 1].

    The values come from k independent draws or seeds. It is Wilson's interval with Student's quantile for k − 1 degrees
    of freedom and the number of items that the spread of the values is worth, p(1 − p) / variance of the mean (Kish
    1965), at most ``n``: the items are the same in every draw. Raises ValueError for fewer than two values.
    """
    data = np.asarray(values, dtype=np.float64)
    mean, variance = float(data.mean()), float(data.var(ddof=1) / data.size) if data.size > 1 else 0.0
    quantile = t_quantile(data.size, confidence) if data.size > 1 else 0.0
    if data.size < 2:
        raise ValueError("the mean of proportions needs at least two values for an interval")
    worth = float(n) if variance <= 0 else min(float(n), max(mean * (1 - mean) / variance, 1e-9))
    square = quantile**2
    centre = (mean + square / (2 * worth)) / (1 + square / worth)
    half = quantile / (1 + square / worth) * math.sqrt(mean * (1 - mean) / worth + square / (4 * worth**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def error_of_proportion(mean: float, interval: tuple[float, float], n: int) -> float:
    """Return the standard error of a mean of ``n`` proportions, from the interval of ``mean_proportion``; NaN for another.

    An end x of that interval fulfils (mean − x)² = q² x(1 − x) / worth, and the error is √(mean(1 − mean) / worth).
    """
    square = t_quantile(n) ** 2
    for end in interval:
        if 0 < end < 1 and end != mean:
            return math.sqrt(mean * (1 - mean) * (mean - end) ** 2 / (square * end * (1 - end)))
    return math.nan


def t_quantile(n: int, confidence: float = 0.95) -> float:
    """Return the half-width of Student's interval for the mean of ``n`` ≥ 2 values, in standard errors."""
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, n - 1))


def welch(
    first: tuple[float, float, int], second: tuple[float, float, int], confidence: float = 0.95
) -> tuple[float, tuple[float, float]] | None:
    """Return Welch's two-sided p-value and interval for second − first, each (mean, standard error, n) (Welch 1947).

    None if an error is not known or both are 0, because the variance of the difference is then not known.
    """
    from scipy.stats import t

    squares = [error * error for _, error, _ in (first, second)]
    total = sum(squares)
    if not total > 0 or min(first[2], second[2]) < 2:
        return None
    freedom = total**2 / sum(
        square**2 / (n - 1) for square, (_, _, n) in zip(squares, (first, second), strict=True)
    )
    difference, error = second[0] - first[0], math.sqrt(total)
    half = float(t.ppf((1 + confidence) / 2, freedom)) * error
    return float(2 * t.sf(abs(difference) / error, freedom)), (difference - half, difference + half)


def paired_t(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value of Student's paired t-test.

    The p-value is 1 if all differences are 0, and 0 if they all equal another number. Raises ValueError for fewer than
    two pairs or unequal lengths.
    """
    from scipy.stats import t

    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if differences.size < 2:
        raise ValueError("a paired test needs at least two pairs")
    spread = differences.std(ddof=1)
    if spread == 0:
        return 1.0 if differences.mean() == 0 else 0.0
    statistic = differences.mean() / (spread / np.sqrt(differences.size))
    return float(2 * t.sf(abs(statistic), differences.size - 1))


def expected_calibration_error(
    confidence: Sequence[float], right: Sequence[bool], bins: int = 15
) -> tuple[float, list[tuple[float, float, int]]]:
    """Return the expected calibration error (Naeini 2015; Guo 2017) and (mean confidence, accuracy, n) of each bin.

    ``confidence`` (n,) in [0, 1] is divided into ``bins`` bins of equal width, including their upper ends; empty bins
    are omitted.
    """
    confidences, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if confidences.size == 0 or confidences.shape != hits.shape:
        raise ValueError("calibration needs one confidence for each answer, and at least one")
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for place in range(bins):
        inside = places == place
        if inside.any():
            rows.append((float(confidences[inside].mean()), float(hits[inside].mean()), int(inside.sum())))
    error = sum(n * abs(accuracy - mean) for mean, accuracy, n in rows) / confidences.size
    return float(error), rows


def bootstrap(
    values: Sequence[float],
    statistic: Callable[[NDArray[np.float64]], float],
    seed: int,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of ``statistic`` (Efron 1979); raises ValueError when empty."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("a bootstrap needs at least one value")
    rng = np.random.default_rng(seed)
    draws = [statistic(data[rng.integers(0, data.size, data.size)]) for _ in range(resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def median_interval(
    values: Sequence[float] | NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """Return the lower median and its distribution-free interval between two order statistics; values may be infinite.

    The ranks lie as close together as makes the coverage of any distribution at least ``confidence``; with too few
    values for that they are the first and the last. Raises ValueError when empty.
    """
    from scipy.stats import binom

    data = np.sort(np.asarray(values, dtype=np.float64))
    if data.size == 0:
        raise ValueError("a median needs at least one value")
    # The largest k with P(fewer than k of n values lie below the median) at most half of the remaining probability.
    rank = int(binom.ppf((1 - confidence) / 2, data.size, 0.5))
    if binom.cdf(rank, data.size, 0.5) > (1 - confidence) / 2:
        rank -= 1
    rank = max(rank, 0)
    return float(data[(data.size - 1) // 2]), (float(data[rank]), float(data[data.size - 1 - rank]))


def bootstrap_mean(
    values: Sequence[float], seed: int, confidence: float = 0.95, resamples: int = 10_000
) -> tuple[float, float]:
    """Return the expanded percentile bootstrap interval of the mean of at least two values (Hesterberg 2015).

    The percentiles lie as far out as makes the interval of few values as wide as Student's. Raises ValueError for fewer.
    """
    from scipy.stats import norm

    data = np.asarray(values, dtype=np.float64)
    if data.size < 2:
        raise ValueError("the bootstrap interval of a mean needs at least two values")
    rng = np.random.default_rng(seed)
    # In parts, as ten thousand resamples of ten thousand images at once are a gigabyte.
    rows = max(1, _AT_ONCE // data.size)
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    means = np.concatenate([data[rng.integers(0, data.size, (size, data.size))].mean(1) for size in sizes])
    quantile = t_quantile(data.size, confidence) * math.sqrt(data.size / (data.size - 1))
    tail = float(norm.cdf(-quantile))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def newcombe(
    first: int, n_first: int, second: int, n_second: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of second − first for two independent proportions (Newcombe 1998, method 10).

    The proportions are ``first`` of ``n_first`` and ``second`` of ``n_second``; (−1, 1) if either n is 0.
    """
    if n_first == 0 or n_second == 0:
        return -1.0, 1.0
    return _square_and_add(first, n_first, second, n_second, 0.0, confidence)


def newcombe_paired(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval of second − first for two proportions of the same items (Newcombe 1998, method 10).

    The counts are of items that succeed in both, in only one and in neither; (−1, 1) if all are 0.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return -1.0, 1.0
    first, second = both + only_first, both + only_second
    spread = math.sqrt(first * (n - first) * second * (n - second))
    excess = float(both * neither - only_first * only_second)
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    return _square_and_add(first, n, second, n, excess / spread if spread else 0.0, confidence)


def _square_and_add(
    first: int, n_first: int, second: int, n_second: int, correlation: float, confidence: float
) -> tuple[float, float]:
    p, q = first / n_first, second / n_second
    low_p, high_p = wilson(first, n_first, confidence)
    low_q, high_q = wilson(second, n_second, confidence)

    def half(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a + b * b - 2 * correlation * a * b))

    return (
        max(-1.0, q - p - half(high_p - p, q - low_q)),
        min(1.0, q - p + half(p - low_p, high_q - q)),
    )


def fisher_exact(first: int, n_first: int, second: int, n_second: int) -> float:
    """Return the two-sided p-value of Fisher's exact test of two independent proportions; 1 when either n is 0."""
    from scipy.stats import fisher_exact as test

    if n_first == 0 or n_second == 0:
        return 1.0
    return float(test(np.array([[first, n_first - first], [second, n_second - second]])).pvalue)


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation, with mean ranks for ties; NaN if either side is constant.

    Raises ValueError for unequal lengths or fewer than two pairs.
    """
    a, b = _centred_ranks(first, second)
    length = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.clip(a @ b / length, -1, 1)) if length > 0 else math.nan


def spearman_p(first: Sequence[float], second: Sequence[float], seed: int, shuffles: int = 10_000) -> float:
    """Return the two-sided permutation p-value of Spearman's rank correlation; 1 if either side is constant.

    It is (1 + number of shuffles with at least this correlation) / (1 + shuffles), so never 0 (Phipson & Smyth 2010).
    """
    a, b = _centred_ranks(first, second)
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(b, (shuffles, 1)), axis=1) @ a
    # Equal sums in another order differ by rounding errors.
    bound = abs(float(a @ b)) - 1e-9 * max(1.0, float(a @ a))
    return float((1 + (np.abs(shuffled) >= bound).sum()) / (1 + shuffles))


def _centred_ranks(
    first: Sequence[float], second: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from scipy.stats import rankdata

    if len(first) != len(second) or len(first) < 2:
        raise ValueError("a rank correlation needs at least two pairs")
    a, b = (rankdata(np.asarray(values, dtype=np.float64)) for values in (first, second))
    return a - a.mean(), b - b.mean()


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for testing several hypotheses (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = running
    return corrected
