"""What the measured importance of a layer's channels comes to: rank correlations, removal curves, named results."""

from __future__ import annotations

import numpy as np

from probe.core import seeds, stats
from probe.core.document import Result
from studies.filters.importance.measure import LayerImportance, RemovalCurve
from studies.filters.importance.measures import Array, ChannelCorrelation, mean_interval, rank_correlation

Ranks = dict[str, ChannelCorrelation]
"""How each measure of one layer's channels agrees with the measured importance."""


def rank_correlations(layer: LayerImportance, seed: int) -> Ranks:
    """Return how each measure orders the channels as the loss increase does; ``split_half``: as it does on other images."""
    name, measured = layer.job.layer, row_means(layer.increases)
    first, second = layer.ordering, np.setdiff1d(np.arange(len(layer.labels)), layer.ordering)
    pairs = {key: (values, measured) for key, values in layer.measures.items()}
    pairs["set_to_mean"] = (row_means(layer.mean.losses - layer.intact.losses), measured)
    pairs["split_half"] = (row_means(layer.increases[:, first]), row_means(layer.increases[:, second]))
    return {
        key: rank_correlation(one, other, seeds.derive(seed, "importance", name, key))
        for key, (one, other) in pairs.items()
    }


def row_means(values: Array) -> Array:
    """Return the means of the rows (K, n), of their finite values, (K,)."""
    return np.array([mean_interval(row)[0] for row in values])


def accuracy_at(curve: RemovalCurve, name: str, step: int) -> tuple[float, tuple[float, float]]:
    """Return the accuracy at a step of an order and its interval; of several orders the mean."""
    right = curve.right[name][:, step]
    if len(right) == 1:
        return int(right[0]) / curve.n, stats.wilson(int(right[0]), curve.n)
    shares = (right / curve.n).tolist()
    return float(np.mean(shares)), stats.mean_proportion(shares, curve.n)


def half_step(curve: RemovalCurve) -> int:
    """Return the step at which about half of the channels are gone."""
    return int(np.argmin([abs(count / curve.counts[-1] - 0.5) for count in curve.counts]))


def measurable_channels(layer: LayerImportance) -> int:
    """Return for how many channels the interval of the loss increase lies above 0."""
    intervals = [mean_interval(row)[1] for row in layer.increases]
    return sum(ci is not None and ci[0] > 0 for ci in intervals)


def most_important(layer: LayerImportance) -> int | None:
    """Return the place of the channel without which the loss grows most, None where no loss is finite."""
    means = row_means(layer.increases)
    return int(np.nanargmax(means)) if np.isfinite(means).any() else None


def mean_over_layers(ranks: dict[str, Ranks], key: str) -> float | None:
    """Return the mean rank correlation of a measure over the layers where it is defined."""
    values = [value for measures in ranks.values() if (value := measures[key].value) is not None]
    return float(np.mean(values)) if values else None


def named_results(layer: LayerImportance, ranks: Ranks) -> list[Result]:
    """Return the named numbers of a layer."""
    name, n, curve = f"importance.{layer.job.layer}", len(layer.labels), layer.curve
    results = [Result.proportion(f"{name}.measurable", measurable_channels(layer), len(layer.job.channels))]
    top = most_important(layer)
    if top is not None:
        mean, ci = mean_interval(layer.increases[top])
        results.append(Result(f"{name}.largest", mean, n, ci, "nats"))
    results += [Result(f"{name}.spearman.{key}", each.value, each.n, each.ci) for key, each in ranks.items()]
    for order in curve.right:
        value, interval = accuracy_at(curve, order, half_step(curve))
        results.append(Result(f"{name}.half_removed.{order}", value, curve.n, interval, "proportion"))
    return results
