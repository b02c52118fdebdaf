"""Votes as charts: accuracy and loss against the number of masks, or networks, that vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe.core.report import Axis, Figure, Series
from studies.ablation.votes import PASSES, Votes

Answer = tuple[NDArray[np.bool_], NDArray[np.float64]]
"""Who is right (n,) and the losses (n,)."""


@dataclass(frozen=True)
class Ensembles:
    """Means over networks trained from several seeds: for each k, by choice of networks; see ``ensemble``."""

    label: str
    by_size: list[list[Answer]]

    @property
    def whole(self) -> Answer:
        """The answer of all networks together."""
        return self.by_size[-1][0]

    def series(self, loss: bool) -> Series:
        """Return accuracy, or loss, against the number of networks."""
        means = [[float(np.mean(answer[loss])) for answer in answers] for answers in self.by_size]
        return Series(
            self.label,
            tuple(float(k + 1) for k in range(len(means))),
            tuple(float(np.mean(row)) for row in means),
            tuple(map(min, means)),
            tuple(map(max, means)),
        )


def votes_figure(every: Sequence[Votes], ensembles: Sequence[Ensembles], loss: bool) -> Figure:
    """Draw accuracy or loss against the number of masks, or networks, whose probabilities are averaged."""
    name, what = ("loss", "negative log-likelihood, nats") if loss else ("accuracy", "accuracy")
    counts = tuple(float(count) for count in every[0].counts)
    middle = np.mean([getattr(votes, name) for votes in every], axis=0)
    # Every network's masks are drawn alone: what lies around each network's own mean is averaged as variances.
    half = 1.96 * np.sqrt(np.mean([getattr(votes, f"{name}_sd") ** 2 for votes in every], axis=0))
    low = np.maximum(middle - half, 0.0)
    high = middle + half if loss else np.minimum(middle + half, 1.0)
    scaled = float(np.mean([getattr(votes, "scaled_loss" if loss else "scaled_right") for votes in every]))
    one = "one network" if not ensembles else "a network, mean over seeds"
    series = [
        Series("masks of " + one, counts, tuple(middle), tuple(low), tuple(high)),
        Series("weight scaling of " + one, (counts[0], counts[-1]), (scaled, scaled)),
        *(part.series(loss) for part in ensembles),
    ]
    better, worse = ("below", "above") if loss else ("above", "below")
    good = (
        "A good approximation: the line of weight scaling lies where the curve of the masks ends. A bad one: the "
        f"curve ends {better} it, and the vote answers better; or {worse} it, and the one pass does."
    )
    band = f"Band of the masks: 95% of draws of so many masks, normal approximation, from {PASSES} sampled passes. "
    more = (
        "Ensembles: mean over all choices of k networks, band from the lowest to the highest. "
        if ensembles
        else ""
    )
    if ensembles:
        good += " Ensembles that lie far beyond the masks say that masks of one network are no independent networks."
    return Figure(
        f"{'Loss' if loss else 'Accuracy'} of votes",
        "line",
        Axis("masks averaged" + (", or networks" if ensembles else ""), "log"),
        Axis(what),
        band + more + good,
        tuple(one for one in series if np.isfinite(one.y).all()),
    )
