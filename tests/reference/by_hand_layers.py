"""Dropout, ReLU, response normalisation and batch normalisation with their gradients, in float64.

Channels are axis 1 everywhere. ``error`` is the loss's gradient with respect to the layer's output.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def dropout(x: Array, kept: Mask, p: float) -> Array:
    """Zero what is not ``kept`` and divide the rest by 1 − p (inverted dropout; with p = 1 all is zero)."""
    return np.zeros_like(x) if p == 1 else x * kept / (1 - p)


def dropout_gradient(error: Array, kept: Mask, p: float) -> Array:
    """Send the error through the same mask with the same factor: the layer is linear and diagonal."""
    return dropout(error, kept, p)


def relu(x: Array) -> Array:
    """Return x where it is positive and zero elsewhere."""
    return np.where(x > 0, x, 0.0)


def relu_gradient(error: Array, x: Array) -> Array:
    """Pass the error where the input is positive; at exactly zero the subgradient 0 is taken, as torch does."""
    return np.where(x > 0, error, 0.0)


def response_denominators(x: Array, n: int, alpha: float, k: float) -> Array:
    """Return d(c) = k + α/n · Σ x(j)² over the n channels j from c − ⌊n/2⌋ to c + ⌊(n − 1)/2⌋ that exist.

    Torch divides α by n, also where fewer than n channels exist; Krizhevsky et al. 2012 do not divide.
    """
    channels = x.shape[1]
    sums = np.zeros_like(x)
    for c in range(channels):
        for j in range(max(0, c - n // 2), min(channels, c + (n - 1) // 2 + 1)):
            sums[:, c] += x[:, j] ** 2
    return k + alpha / n * sums


def local_response_norm(x: Array, n: int, alpha: float, beta: float, k: float) -> Array:
    """Divide each channel by d(c)^β, where d grows with the squares of its neighbours (Krizhevsky et al. 2012)."""
    return x / response_denominators(x, n, alpha, k) ** beta


def local_response_norm_gradient(
    error: Array, x: Array, n: int, alpha: float, beta: float, k: float
) -> Array:
    """Return error(c) d(c)^−β − 2αβ/n · x(c) Σ error(j) x(j) d(j)^(−β−1) over the channels j that see c.

    For even n the window is lopsided, and the channels that c is seen by are not those that it sees.
    """
    channels = x.shape[1]
    d = response_denominators(x, n, alpha, k)
    blame = error * x * d ** (-beta - 1)
    gradient = error * d**-beta
    for c in range(channels):
        for j in range(max(0, c - (n - 1) // 2), min(channels, c + n // 2 + 1)):
            gradient[:, c] -= 2 * alpha * beta / n * x[:, c] * blame[:, j]
    return gradient


def _along(values: Array, x: Array) -> Array:
    """Shape one value a channel so that it multiplies (N, C, …)."""
    return values.reshape(1, -1, *(1 for _ in x.shape[2:]))


def _rest(x: Array) -> tuple[int, ...]:
    """Return the axes that batch normalisation takes its statistics over: all but the channels."""
    return (0, *range(2, x.ndim))


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Return each channel's mean and its variance divided by m, the number of values (not m − 1)."""
    mean = x.mean(axis=_rest(x))
    return mean, ((x - _along(mean, x)) ** 2).mean(axis=_rest(x))


def normalised(x: Array, mean: Array, variance: Array, eps: float) -> Array:
    """Return x̂ = (x − mean) / √(variance + eps), channel by channel."""
    return (x - _along(mean, x)) / _along(np.sqrt(variance + eps), x)


def batch_norm(
    x: Array, gamma: Array, beta: Array, eps: float, statistics: tuple[Array, Array] | None = None
) -> Array:
    """Return γ x̂ + β with the batch's own statistics (training), or with those given (evaluation)."""
    mean, variance = batch_statistics(x) if statistics is None else statistics
    return _along(gamma, x) * normalised(x, mean, variance, eps) + _along(beta, x)


def batch_norm_paths(error: Array, x: Array, gamma: Array, eps: float) -> tuple[Array, Array, Array]:
    """Return the three parts of the input's gradient in training: direct, through the mean, through the variance.

    Ioffe & Szegedy 2015. The mean's part leaves out its way into the variance, Σ (x − mean) · …, which is zero.
    """
    mean, variance = batch_statistics(x)
    centred = x - _along(mean, x)
    count = x.size // x.shape[1]
    scale = 1 / np.sqrt(variance + eps)
    towards = error * _along(gamma, x)  # ∂L/∂x̂
    by_mean = -(towards.sum(axis=_rest(x)) * scale)
    by_variance = -(towards * centred).sum(axis=_rest(x)) * scale**3 / 2
    through_mean = np.broadcast_to(_along(by_mean / count, x), x.shape)
    return towards * _along(scale, x), through_mean, _along(by_variance, x) * 2 * centred / count


def batch_norm_gradient(
    error: Array, x: Array, gamma: Array, eps: float, statistics: tuple[Array, Array] | None = None
) -> tuple[Array, Array, Array]:
    """Return the gradients of x, γ and β; with given statistics (evaluation) the layer is an affine map.

    Training: ∂L/∂x = γ/σ · (error − mean(error) − x̂ · mean(error · x̂)) with σ = √(variance + eps).
    """
    mean, variance = batch_statistics(x) if statistics is None else statistics
    for_gamma = (error * normalised(x, mean, variance, eps)).sum(axis=_rest(x))
    for_beta = error.sum(axis=_rest(x))
    if statistics is not None:
        return error * _along(gamma / np.sqrt(variance + eps), x), for_gamma, for_beta
    return sum(batch_norm_paths(error, x, gamma, eps), np.zeros_like(x)), for_gamma, for_beta
