"""Do important channels look different? Rank correlations of what channels do with how they look and answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from probe.core import stats
from probe.core.document import Axis, Block, Column, Figure, Note, Result, Section, Series, Table
from probe.core.seeds import derive
from probe.tools.dossier.measure import IMPORTANCE, MOVEMENT, OUTCOMES, ROBUST_IMPORTANCE, Channels

LEVEL = 0.05


@dataclass(frozen=True)
class RankCorrelation:
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


def correlations(layers: Sequence[Channels], seed: int) -> tuple[RankCorrelation, ...]:
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


def _correlation(layer: Channels, first: str, second: str, seed: int) -> RankCorrelation | None:
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
    return RankCorrelation(
        layer.chosen.name, first, second, len(a), stats.spearman(a.tolist(), b.tolist()), ci, p
    )


def detectable(n: int, tests: int = 1) -> float:
    """Return the least |correlation| that a two-sided t-test of n pairs calls significant, corrected for ``tests``."""
    from scipy.stats import t

    if n < 3:
        return 1.0
    bound = float(t.isf(LEVEL / 2 / max(tests, 1), n - 2))
    return bound / math.sqrt(n - 2 + bound**2)


def correlations_section(found: Sequence[RankCorrelation], layers: Sequence[Channels]) -> Section:
    """Return whether channels that matter look or answer differently."""
    if not found:
        reason = "No layer has three channels whose measures differ."
        return Section("looks", "Do important channels look different?", reason=reason)
    kept = [one for one in found if one.significant]
    n = min(one.n for one in found)
    blocks: list[Block] = [Note(_honest(n, len(found)), "plain"), _table(found)]
    blocks += [figure for layer in layers for figure in _scatters(layer, found)]
    return Section(
        "looks",
        "Do important channels look different?",
        f"{len(found)} rank correlations over {n} channels; {len(kept)} remain at 5% after Holm's correction.",
        tuple(blocks),
        results=tuple(
            Result(f"correlation:{one.layer}:{one.first}:{one.second}", one.value, one.n, one.ci)
            for one in found
        ),
        findings=(_finding(found, kept),),
    )


def _honest(n: int, tests: int) -> str:
    return (
        f"With {n} channels a single test sees a rank correlation of about ±{detectable(n):.2f} or more, and one of "
        f"{tests} tests, corrected, about ±{detectable(n, tests):.2f}; what is weaker stays unseen, which does not "
        "mean that it is not there. Channels of one layer share inputs and readers, so they are not independent draws, "
        "and nothing is said about other layers or networks. A correlation is no cause."
    )


def _finding(found: Sequence[RankCorrelation], kept: Sequence[RankCorrelation]) -> str:
    if not kept:
        strongest = max(found, key=lambda one: abs(one.value))
        return (
            f"No correlation remains after correcting for {len(found)} tests; the strongest, of {strongest.first} with "
            f"{strongest.second}, is {_rho(strongest)}, which may be chance."
        )
    told = [
        f"{one.first} with {one.second} {_rho(one)}"
        for one in sorted(kept, key=lambda one: -abs(one.value))[:3]
    ]
    return (
        f"{len(kept)} of {len(found)} rank correlations remain after Holm's correction; the strongest: "
        f"{'; '.join(told)}."
    )


def _rho(one: RankCorrelation) -> str:
    return f"ρ = {one.value:.2f} [{one.ci[0]:.2f}, {one.ci[1]:.2f}]".replace("-", "−")


def _table(found: Sequence[RankCorrelation]) -> Table:
    return Table(
        "Spearman's rank correlations",
        (
            Column("Layer"),
            Column("What the channel does"),
            Column("With"),
            Column("RankCorrelation", digits=2),
            Column("low", digits=2, help="95% bootstrap interval over channels."),
            Column("high", digits=2, help="95% bootstrap interval over channels."),
            Column("n"),
            Column("p", digits=2, help="Permutation test, not corrected."),
            Column("p, Holm", digits=2, help=f"Corrected for all {len(found)} correlations."),
        ),
        tuple(
            (one.layer, one.first, one.second, one.value, *one.ci, one.n, one.p, one.corrected)
            for one in sorted(found, key=lambda one: (one.corrected, one.p, -abs(one.value)))
        ),
        "The surest first. A lesion counts by the rise of the loss when the channel is silenced.",
    )


def _scatters(layer: Channels, found: Sequence[RankCorrelation]) -> list[Figure]:
    """Draw importance against movement, and the surest of the pairs of a channel's deeds and looks."""
    own = [one for one in found if one.layer == layer.chosen.name]
    looks = [one for one in own if one.second not in OUTCOMES]
    pairs = [(MOVEMENT, IMPORTANCE)]
    if looks:
        surest = min(looks, key=lambda one: (one.p, -abs(one.value)))
        pairs.append((surest.second, surest.first))
    return [_scatter(layer, x, y) for x, y in pairs]


def _scatter(layer: Channels, x: str, y: str) -> Figure:
    return Figure(
        f"{layer.chosen.name}: {y} against {x}",
        "scatter",
        Axis(_UNITS.get(x, x)),
        Axis(_UNITS.get(y, y)),
        f"One point for each of the {len(layer.channels)} channels measured.",
        (Series("channels", tuple(map(float, layer.measures[x])), tuple(map(float, layer.measures[y]))),),
    )


_UNITS = {
    MOVEMENT: "relative change under attack",
    IMPORTANCE: "rise of the loss without it, clean (nats)",
    ROBUST_IMPORTANCE: "rise of the loss without it, attacked (nats)",
    "spatial frequency": "spatial frequency (cycles a pixel)",
}
