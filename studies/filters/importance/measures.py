"""Measures of a channel's importance, and how well they agree: plain numbers in, plain numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probe.core import stats

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
Truth = NDArray[np.bool_]

LEAST_CHANNELS = 5
"""Fewer channels have no rank correlation worth a number."""

SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0)
"""The shares of the channels that are removed together."""

_RESAMPLES = 2000


@dataclass(frozen=True)
class ChannelCorrelation:
    """Spearman's rank correlation over n channels with its 95% bootstrap interval; None where it is not defined."""

    value: float | None
    ci: tuple[float, float] | None
    n: int


def rank_correlation(first: Array, second: Array, seed: int) -> ChannelCorrelation:
    """Correlate the ranks of two measures (K,); channels where one of them is NaN are left out.

    The interval is the percentile bootstrap over channels (Efron 1979). Not defined for fewer than five channels and
    where a measure is constant.
    """
    from scipy.stats import rankdata

    both = np.isfinite(first) & np.isfinite(second)
    a, b = first[both], second[both]
    n = len(a)
    value = stats.spearman(a.tolist(), b.tolist()) if n >= LEAST_CHANNELS else np.nan
    if not np.isfinite(value):
        return ChannelCorrelation(None, None, n)
    draws = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))
    x, y = (rankdata(values[draws], axis=1) for values in (a, b))
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    length = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    # A draw of equal channels alone has no correlation.
    found = ((x * y).sum(1) / np.where(length > 0, length, 1))[length > 0]
    if len(found) < _RESAMPLES / 2:
        return ChannelCorrelation(value, None, n)
    low, high = np.quantile(np.clip(found, -1, 1), [0.025, 0.975])
    return ChannelCorrelation(value, (float(low), float(high)), n)


def mean_interval(values: Array) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of the finite values (n,) and its 95% t-interval; NaN and None where there are too few."""
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else float("nan")
    return mean, stats.t_interval(known.tolist()) if len(known) > 1 else None


def class_selectivity(activations: Array, labels: Whole) -> Array:
    """Return (μ_max − μ_−max) / (μ_max + μ_−max) of channels (Morcos et al. 2018), (K,).

    ``activations`` (n, K), at least 0, are means over positions; μ_max is the largest mean of a class, μ_−max the mean of
    the other classes' means. NaN for a channel that is 0 on all images, and for a single class.
    """
    classes = np.unique(labels)
    if len(classes) < 2:
        return np.full(activations.shape[1], np.nan)
    means = np.stack([activations[labels == each].mean(0) for each in classes])
    best = means.max(0)
    rest = (means.sum(0) - best) / (len(classes) - 1)
    total = best + rest
    found: Array = np.where(total > 0, (best - rest) / np.where(total > 0, total, 1), np.nan)
    return found


def taylor(maps: Tensor, gradients: Tensor) -> Tensor:
    """Return |Σ a · ∂loss/∂a| over the positions of every channel (Molchanov et al. 2017), (N, C) from (N, C, H, W).

    It is the first-order estimate of how much the image's loss changes when the channel is set to 0. The paper's factor
    of 1 / (H · W) is left out, which is the same for all channels of a layer. Molchanov et al. 2019 square the sum instead.
    """
    return (maps * gradients).sum((2, 3), dtype=torch.float64).abs()


@dataclass(frozen=True)
class ServedClass:
    """A class that loses ``lost`` right answers, net, of its n images when a channel is removed."""

    label: int
    lost: int
    n: int


def served_classes(before: Truth, after: Truth, labels: Whole) -> list[ServedClass]:
    """Return the classes with fewer right answers after a removal than before, those that lose the largest share first.

    ``before``, ``after``, ``labels`` (n,): whether each image is right, and its class.
    """
    found = []
    for label in np.unique(labels):
        own = labels == label
        lost = int(before[own].sum()) - int(after[own].sum())
        if lost > 0:
            found.append(ServedClass(int(label), lost, int(own.sum())))
    return sorted(found, key=lambda each: (-each.lost / each.n, -each.n, each.label))


def halves(labels: Whole, seed: int) -> tuple[Whole, Whole]:
    """Divide images into two halves, ascending places each, every class evenly to within one image."""
    order = np.random.default_rng(seed).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    return np.sort(by_class[::2]), np.sort(by_class[1::2])


def removal_counts(channels: int) -> tuple[int, ...]:
    """Return how many of the channels are removed together at each step, ascending; all of them last."""
    return tuple(sorted({max(1, round(share * channels)) for share in SHARES}))


def least_first(measure: Array) -> Whole:
    """Return the places (K,) by increasing measure; the first of equal ones first, NaN counts as the least."""
    return np.argsort(np.where(np.isnan(measure), -np.inf, measure), kind="stable").astype(np.int64)


def spread_channels(total: int, most: int, wanted: Sequence[int] = ()) -> tuple[int, ...]:
    """Return at most ``most`` of the channels, ascending: the wanted ones, and others evenly over the rest."""
    chosen = list(dict.fromkeys(wanted))[:most]
    rest = [channel for channel in range(total) if channel not in set(chosen)]
    free = min(most - len(chosen), len(rest))
    places = np.round(np.linspace(0, len(rest) - 1, free)).astype(int).tolist() if free else []
    return tuple(sorted([*chosen, *(rest[place] for place in places)]))
