"""Rank correlations of a channel's importance and activation change with its weights and activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from probe.core import stats
from probe.core.blocks import Axis, Block, Column, Figure, Note, Series, Table
from probe.core.document import Result, Section
from probe.core.seeds import derive
from probe.tools.dossier.measure import (
    ACTIVATION_CHANGE,
    ATTACKED_LOSS_INCREASE,
    CLEAN_LOSS_INCREASE,
    OUTCOMES,
    Channels,
)

LEVEL = 0.05


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation of two measures over the n channels of a layer.

    ``ci`` is its 95% bootstrap interval over channels, ``p`` is from a permutation test, ``corrected`` after Holm over all
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
        """Whether the correlation is significant after the correction."""
        return self.corrected < LEVEL


def correlations(layers: Sequence[Channels], seed: int) -> tuple[RankCorrelation, ...]:
    """Correlate the outcomes with each other and with every other measure, unless a measure is constant."""
    computed = [
        result
        for layer in layers
        for first, second in _pairs(list(layer.measures))
        if (result := _correlation(layer, first, second, seed)) is not None
    ]
    corrected = stats.holm([correlation.p for correlation in computed])
    return tuple(
        replace(correlation, corrected=p) for correlation, p in zip(computed, corrected, strict=True)
    )


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
        # A resample in which one measure is constant counts as no correlation.
        return 0.0 if math.isnan(value) else value

    ci = stats.bootstrap(range(len(a)), again, own, resamples=1000)
    p = stats.spearman_p(a.tolist(), b.tolist(), own)
    return RankCorrelation(
        layer.chosen.name, first, second, len(a), stats.spearman(a.tolist(), b.tolist()), ci, p
    )


def detectable(n: int, tests: int = 1) -> float:
    """Return the smallest |correlation| that is significant in a two-sided t-test of n pairs, corrected for ``tests``."""
    from scipy.stats import t

    if n < 3:
        return 1.0
    bound = float(t.isf(LEVEL / 2 / max(tests, 1), n - 2))
    return bound / math.sqrt(n - 2 + bound**2)


def correlations_section(computed: Sequence[RankCorrelation], layers: Sequence[Channels]) -> Section:
    """Return the section on whether important channels look or respond differently."""
    if not computed:
        reason = "No layer has three channels whose measures differ."
        return Section("looks", "Do important channels look different?", reason=reason)
    significant = [rank for rank in computed if rank.significant]
    n = min(rank.n for rank in computed)
    blocks: list[Block] = [Note(_power_note(n, len(computed)), "plain"), _table(computed)]
    blocks += [figure for layer in layers for figure in _scatters(layer, computed)]
    return Section(
        "looks",
        "Do important channels look different?",
        f"{len(computed)} rank correlations over {n} channels; {len(significant)} are significant at 5% after Holm's correction.",
        tuple(blocks),
        results=tuple(
            Result(
                f"correlation:{rank.layer}:{rank.first}:{rank.second}",
                rank.value,
                rank.n,
                rank.ci,
            )
            for rank in computed
        ),
        findings=(_finding(computed, significant),),
    )


def _power_note(n: int, tests: int) -> str:
    return (
        f"With {n} channels, a rank correlation is significant from about ±{detectable(n):.2f} on in a single test, and from "
        f"about ±{detectable(n, tests):.2f} on if it is the first of {tests} in Holm's order. Weaker correlations may exist "
        "and not be detected. Channels of one layer share inputs and later layers, so they are not independent samples, and the "
        "result does not apply to other layers or networks. Correlation is not causation."
    )


def _finding(computed: Sequence[RankCorrelation], significant: Sequence[RankCorrelation]) -> str:
    if not significant:
        strongest = max(computed, key=lambda rank: abs(rank.value))
        return (
            f"No correlation is significant after correction for {len(computed)} tests; the strongest, of {strongest.first} "
            f"with {strongest.second}, is {_rho(strongest)}, which may be due to chance."
        )
    texts = [
        f"{rank.first} with {rank.second} {_rho(rank)}"
        for rank in sorted(significant, key=lambda rank: -abs(rank.value))[:3]
    ]
    return (
        f"{len(significant)} of {len(computed)} rank correlations are significant after Holm's correction; the strongest: "
        f"{'; '.join(texts)}."
    )


def _rho(rank: RankCorrelation) -> str:
    return f"ρ = {rank.value:.2f} [{rank.ci[0]:.2f}, {rank.ci[1]:.2f}]".replace("-", "−")


def _table(computed: Sequence[RankCorrelation]) -> Table:
    return Table(
        "Spearman's rank correlations",
        (
            Column("Layer"),
            Column("Measure"),
            Column("With"),
            Column("Rank correlation", digits=2),
            Column("low", digits=2, help="95% bootstrap interval over channels, not corrected."),
            Column("high", digits=2, help="95% bootstrap interval over channels, not corrected."),
            Column("n"),
            Column("p", digits=2, help="Permutation test, not corrected."),
            Column("p, Holm", digits=2, help=f"Corrected for all {len(computed)} correlations."),
        ),
        tuple(
            (
                rank.layer,
                rank.first,
                rank.second,
                rank.value,
                *rank.ci,
                rank.n,
                rank.p,
                rank.corrected,
            )
            for rank in sorted(
                computed,
                key=lambda rank: (rank.corrected, rank.p, -abs(rank.value)),
            )
        ),
        "The most significant first. The loss increases are measured by silencing the channel.",
    )


def _scatters(layer: Channels, computed: Sequence[RankCorrelation]) -> list[Figure]:
    """Return the scatter plots of clean loss increase by activation change, and of the most significant other pair."""
    own = [rank for rank in computed if rank.layer == layer.chosen.name]
    looks = [rank for rank in own if rank.second not in OUTCOMES]
    pairs = [(ACTIVATION_CHANGE, CLEAN_LOSS_INCREASE)]
    if looks:
        surest = min(looks, key=lambda rank: (rank.p, -abs(rank.value)))
        pairs.append((surest.second, surest.first))
    return [_scatter(layer, x, y) for x, y in pairs]


def _scatter(layer: Channels, x: str, y: str) -> Figure:
    return Figure(
        f"{layer.chosen.name}: {y} against {x}",
        "scatter",
        Axis(_UNITS.get(x, x)),
        Axis(_UNITS.get(y, y)),
        f"One point for each of the {len(layer.channels)} measured channels.",
        (Series("channels", tuple(map(float, layer.measures[x])), tuple(map(float, layer.measures[y]))),),
    )


_UNITS = {
    ACTIVATION_CHANGE: "relative change under attack",
    CLEAN_LOSS_INCREASE: "increase of the loss without the channel, clean (nats)",
    ATTACKED_LOSS_INCREASE: "increase of the loss without the channel, attacked (nats)",
    "spatial frequency": "spatial frequency (cycles per pixel)",
}
