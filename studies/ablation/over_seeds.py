"""Means, intervals and paired tests over seeds; trainings that diverged are left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from probe.core import stats

Values = NDArray[np.float64]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% t-interval of the finite values' mean, None for fewer than two."""
    known = [value for value in values if np.isfinite(value)]
    return stats.t_interval(known) if len(known) > 1 else None


def mean(values: Sequence[float]) -> float | None:
    """Return the mean of the finite values, None when there is none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else None


def paired(first: Values, second: Values) -> tuple[float | None, tuple[float, float] | None, float | None]:
    """Return mean difference (first − second) over seeds, its t-interval, and the paired test's p."""
    both = np.isfinite(first) & np.isfinite(second)
    differences = (first - second)[both]
    if len(differences) < 2:
        return mean(differences.tolist()), None, None
    return (
        float(differences.mean()),
        stats.t_interval(differences.tolist()),
        stats.paired_t(first[both].tolist(), second[both].tolist()),
    )
