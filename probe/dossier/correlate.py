"""Do important channels look different? Rank correlations of what channels do with how they look and answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from probe.core import stats
from probe.core.seeds import derive
from probe.dossier.measure import OUTCOMES, Channels

LEVEL = 0.05


@dataclass(frozen=True)
class Correlation:
    """Spearman's correlation of two measures over the n channels of a layer.

    ``ci`` is its 95% bootstrap interval over channels, ``p`` of a permutation test, ``corrected`` after Holm over all
    correlations of the dossier.
    """

    layer: str
    first: str
    second: str
    n: int
    value: float
    ci: tuple[float, float]
    p: float
    corrected: float = 1.0

    @property
    def significant(self) -> bool:
        """True when it remains after the correction."""
        return self.corrected < LEVEL


def correlations(layers: Sequence[Channels], seed: int) -> tuple[Correlation, ...]:
    """Correlate what channels do with each other and with every other measure; one of equal values has none."""
    found = [
        one
        for layer in layers
        for first, second in _pairs(list(layer.measures))
        if (one := _correlation(layer, first, second, seed)) is not None
    ]
    corrected = stats.holm([one.p for one in found])
    return tuple(replace(one, corrected=p) for one, p in zip(found, corrected, strict=True))


def _pairs(names: list[str]) -> list[tuple[str, str]]:
    others = [name for name in names if name not in OUTCOMES]
    return [*combinations(OUTCOMES, 2), *((outcome, other) for outcome in OUTCOMES for other in others)]


def _correlation(layer: Channels, first: str, second: str, seed: int) -> Correlation | None:
    a, b = layer.measures[first], layer.measures[second]
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    own = derive(seed, "correlation", layer.chosen.name, first, second)

    def again(rows: np.ndarray) -> float:
        places = rows.astype(int)
        value = stats.spearman(a[places].tolist(), b[places].tolist())
        # A resample in which one side is constant says nothing for either sign.
        return 0.0 if math.isnan(value) else value

    ci = stats.bootstrap(range(len(a)), again, own, resamples=1000)
    p = stats.spearman_p(a.tolist(), b.tolist(), own)
    return Correlation(
        layer.chosen.name, first, second, len(a), stats.spearman(a.tolist(), b.tolist()), ci, p
    )


def detectable(n: int, tests: int = 1) -> float:
    """Return the least |correlation| that a two-sided t-test of n pairs calls significant, corrected for ``tests``."""
    from scipy.stats import t

    if n < 3:
        return 1.0
    bound = float(t.isf(LEVEL / 2 / max(tests, 1), n - 2))
    return bound / math.sqrt(n - 2 + bound**2)
