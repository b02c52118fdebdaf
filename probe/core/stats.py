"""Intervals and tests; thin over scipy. Every function takes plain numbers and returns plain numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


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


def paired_t(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the two-sided p-value of Student's paired t-test.

    It is 1 where all differences are 0, and 0 where they are all one other number. Raises ValueError for fewer than
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

    ``confidence`` (n,) in [0, 1] falls into ``bins`` of equal width, the upper end included; empty ones are left out.
    """
    given, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if given.size == 0 or given.shape != hits.shape:
        raise ValueError("calibration needs one confidence for each answer, and at least one")
    places = np.clip(np.ceil(given * bins).astype(int) - 1, 0, bins - 1)
    rows = []
    for place in range(bins):
        inside = places == place
        if inside.any():
            rows.append((float(given[inside].mean()), float(hits[inside].mean()), int(inside.sum())))
    error = sum(n * abs(accuracy - mean) for mean, accuracy, n in rows) / given.size
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for testing several hypotheses (Holm 1979), in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = running
    return corrected
