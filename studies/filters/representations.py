"""What the layers say about every image, and how alike two of them are: debiased linear CKA with its jackknife."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from probe.core.progress import Advance
from probe.core.state import captured, last_map
from probe.data.images import ImageSet
from probe.models.loaded import LoadedModel

Array = NDArray[np.float64]

GRID = 4
"""Maps are averaged over a grid of at most this many cells a side."""

MOST_NUMBERS = 2048
"""The grid is coarser where a layer would give more numbers for an image than this."""

LEAST_IMAGES = 5
"""Fewer images leave nothing to estimate from once one is left out."""


@dataclass(frozen=True)
class Representations:
    """The averaged maps (n, d) of each layer, in execution order, and the images' labels (n,), −1: none."""

    layers: dict[str, NDArray[np.float32]]
    labels: NDArray[np.int64]


def represent(
    model: LoadedModel, images: ImageSet, layers: Sequence[str], batch_size: int, advance: Advance
) -> Representations:
    """Run every image through the network and average the maps of ``layers`` over a grid.

    ``advance`` is called with the number of images that are done.
    """
    found: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
    labels: list[int] = []
    with torch.inference_mode():
        for batch in images.batches(model.input, batch_size):
            with captured(model.network, layers) as outputs:
                model.module(batch.images.to(model.device, memory_format=model.memory_format))
            for layer in layers:
                maps = last_map(outputs[layer]).float()
                cells = min(GRID, max(1, int((MOST_NUMBERS / maps.shape[1]) ** 0.5)))
                size = (min(cells, maps.shape[2]), min(cells, maps.shape[3]))
                found[layer].append(F.adaptive_avg_pool2d(maps, size).flatten(1).cpu().numpy())
            labels += [-1] * len(batch.indices) if batch.labels is None else batch.labels.tolist()
            advance(len(batch.indices))
    return Representations(
        {layer: np.concatenate(parts) for layer, parts in found.items()}, np.array(labels, dtype=np.int64)
    )


@dataclass(frozen=True)
class Similarities:
    """Inner products of n images in one layer, with a zero diagonal: ``matrix`` (n, n) and its row sums (n,)."""

    matrix: Array
    rows: Array

    @classmethod
    def of(cls, features: NDArray[np.floating]) -> Similarities:
        """Return those of ``features`` (n, d); a shift of all images changes no CKA, and is taken away first."""
        centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
        matrix = centred @ centred.T
        np.fill_diagonal(matrix, 0.0)
        return cls(matrix, matrix.sum(1))


def hsic(first: Similarities, second: Similarities) -> float:
    """Return the unbiased estimate of the Hilbert–Schmidt independence criterion (Song et al. 2012, equation 5)."""
    sums = (first.matrix * second.matrix).sum(), first.rows.sum(), second.rows.sum(), first.rows @ second.rows
    return float(_estimate(len(first.rows), *map(np.asarray, sums)))


def without_each(first: Similarities, second: Similarities) -> Array:
    """Return ``hsic`` without each of the images in turn, (n,)."""
    products = first.matrix * second.matrix
    here = products.sum(1)
    both = first.rows @ second.rows - first.rows * second.rows
    both = both - first.matrix @ second.rows - second.matrix @ first.rows + here
    return _estimate(
        len(here) - 1,
        products.sum() - 2 * here,
        first.rows.sum() - 2 * first.rows,
        second.rows.sum() - 2 * second.rows,
        both,
    )


def _estimate(n: int, products: Array, first: Array, second: Array, both: Array) -> Array:
    """Return the estimate from Σ KL, Σ K, Σ L and 1ᵀKL1, one for each entry."""
    found: Array = (products + first * second / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))
    return found


@dataclass(frozen=True)
class Cka:
    """The debiased linear CKA of two layers, and its 95% jackknife interval over images; None where it is not defined."""

    value: float | None
    ci: tuple[float, float] | None


def cka(first: Similarities, second: Similarities) -> Cka:
    """Return the CKA (Kornblith et al. 2019) with unbiased estimates, for at least ``LEAST_IMAGES`` images.

    It is 1 for representations that differ by a rotation and a scale, and about 0 for unrelated ones, below it by chance.
    """
    value = _ratio(*(np.array([hsic(a, b)]) for a, b in _pairs(first, second)))[0]
    if not np.isfinite(value):
        return Cka(None, None)
    left = _ratio(*(without_each(a, b) for a, b in _pairs(first, second)))
    n = len(left)
    if not np.isfinite(left).all():
        return Cka(float(value), None)
    from scipy.stats import t

    error = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    reach = float(t.ppf(0.975, n - 1) * error)
    return Cka(float(value), (max(-1.0, float(value) - reach), min(1.0, float(value) + reach)))


def _pairs(first: Similarities, second: Similarities) -> tuple[tuple[Similarities, Similarities], ...]:
    return (first, second), (first, first), (second, second)


def _ratio(both: Array, first: Array, second: Array) -> Array:
    """Return HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)); NaN where a layer says the same about all images."""
    usable = (first > 0) & (second > 0)
    scale = np.sqrt(np.where(usable, first * second, 1.0))
    return np.where(usable, both / scale, np.nan)
