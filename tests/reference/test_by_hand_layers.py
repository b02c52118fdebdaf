"""Dropout, ReLU, response and batch normalisation by hand against torch, autograd and least squares."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from by_hand_draws import EACH, SEEDS, Array, autograd, normal, same
from by_hand_layers import (
    Mask,
    batch_norm,
    batch_norm_gradient,
    batch_norm_paths,
    batch_statistics,
    dropout,
    dropout_gradient,
    local_response_norm,
    local_response_norm_gradient,
    normalised,
    relu,
    relu_gradient,
    response_denominators,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

sides = st.integers(1, 4)
shapes = st.one_of(
    st.tuples(sides, sides), st.tuples(sides, sides, sides), st.tuples(sides, sides, sides, sides)
)
maps = st.one_of(
    st.tuples(sides, st.integers(1, 7), sides), st.tuples(sides, st.integers(1, 7), sides, sides)
)


@st.composite
def batches(draw: st.DrawFn) -> Array:
    """Draw (N, C), (N, C, L) or (N, C, H, W) whose channels vary enough for 1/σ to be of order one."""
    shape = draw(shapes)
    x = normal(draw(SEEDS), *shape) + 2 * normal(draw(SEEDS), shape[1]).reshape(
        1, -1, *[1] * (len(shape) - 2)
    )
    assume(x.size // shape[1] > 1)
    assume(x.var(axis=(0, *range(2, x.ndim))).min() > 0.05)
    return x


def torchs_mask(shape: tuple[int, ...], p: float, seed: int) -> Mask:
    """What torch's dropout keeps after this seed: what is left of ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kept: Mask = (F.dropout(torch.ones(shape, dtype=torch.float64), p) != 0).numpy()
    return kept


@EACH
@given(shapes, st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), SEEDS)
def test_dropout_and_its_gradient_equal_torchs(shape: tuple[int, ...], p: float, seed: int) -> None:
    x, error = normal(seed, *shape), normal(seed + 1, *shape)
    kept = torchs_mask(shape, p, seed)

    def layer(z: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return F.dropout(z, p, training=True)

    same(dropout(x, kept, p), layer(torch.from_numpy(x)))
    (gradient,) = autograd(layer, error, x)
    same(dropout_gradient(error, kept, p), gradient)
    same(dropout_gradient(error * (1 - p), kept, p)[kept], error[kept])


def test_dropout_is_unbiased_over_all_masks() -> None:
    """The mean over every mask, weighted by its probability, is the identity: why 1 − p divides."""
    x, p = np.array([[3.0, -2.0, 0.5]]), 0.3
    mean = np.zeros_like(x)
    for bits in np.ndindex(2, 2, 2):
        kept = np.array([bits], dtype=bool)
        mean += (1 - p) ** kept.sum() * p ** (~kept).sum() * dropout(x, kept, p)
    same(mean, x)


@EACH
@given(shapes, SEEDS)
def test_relu_and_its_gradient_equal_torchs_also_at_zero(shape: tuple[int, ...], seed: int) -> None:
    x, error = normal(seed, *shape), normal(seed + 1, *shape)
    x[np.random.default_rng(seed).random(shape) < 0.3] = 0.0
    x[np.random.default_rng(seed + 1).random(shape) < 0.1] = -0.0
    same(relu(x), F.relu(torch.from_numpy(x)))
    (gradient,) = autograd(F.relu, error, x)
    same(relu_gradient(error, x), gradient)


def test_the_subgradient_at_zero_is_zero() -> None:
    x = np.array([-1.0, -0.0, 0.0, 5e-324, 1.0])
    assert relu_gradient(np.full(5, 7.0), x).tolist() == [0, 0, 0, 7, 7]
    (gradient,) = autograd(F.relu, np.full(5, 7.0), x)
    assert gradient.tolist() == [0, 0, 0, 7, 7]


@EACH
@given(
    maps,
    st.integers(1, 6),
    st.floats(0, 3),
    st.floats(0.25, 2),
    st.sampled_from([0.5, 0.75, 1.0, 2.0]),
    SEEDS,
)
def test_response_normalisation_and_its_gradient_equal_torchs(
    shape: tuple[int, ...], n: int, alpha: float, k: float, beta: float, seed: int
) -> None:
    x, error = normal(seed, *shape), normal(seed + 1, *shape)

    def layer(z: Tensor) -> Tensor:
        return F.local_response_norm(z, n, alpha, beta, k)

    same(local_response_norm(x, n, alpha, beta, k), layer(torch.from_numpy(x)))
    (gradient,) = autograd(layer, error, x)
    same(local_response_norm_gradient(error, x, n, alpha, beta, k), gradient)


def test_the_window_of_an_even_size_leans_to_lower_channels() -> None:
    x = np.zeros((1, 7, 1))
    x[0, 3] = 2.0
    for n, seen in ((1, [3]), (2, [3, 4]), (3, [2, 3, 4]), (4, [2, 3, 4, 5]), (5, [1, 2, 3, 4, 5])):
        d = response_denominators(x, n, alpha=float(n), k=1.0)[0, :, 0]
        assert np.flatnonzero(d > 1).tolist() == seen
        assert d[3] == 1 + 2.0**2, "α is divided by n"


@EACH
@given(batches(), st.floats(1e-5, 0.1), SEEDS)
def test_batch_norm_in_training_and_its_gradients_equal_torchs(x: Array, eps: float, seed: int) -> None:
    gamma, beta, error = normal(seed, x.shape[1]), normal(seed + 1, x.shape[1]), normal(seed + 2, *x.shape)

    def layer(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.batch_norm(z, None, None, weight, bias, training=True, eps=eps)

    same(batch_norm(x, gamma, beta, eps), layer(*map(torch.from_numpy, (x, gamma, beta))))
    for ours, theirs in zip(
        batch_norm_gradient(error, x, gamma, eps), autograd(layer, error, x, gamma, beta), strict=True
    ):
        same(ours, theirs)


@EACH
@given(shapes, st.floats(1e-5, 0.1), SEEDS)
def test_batch_norm_in_evaluation_and_its_gradients_equal_torchs(
    shape: tuple[int, ...], eps: float, seed: int
) -> None:
    channels = shape[1]
    x, error = normal(seed, *shape), normal(seed + 1, *shape)
    gamma, beta, mean = (normal(seed + i, channels) for i in (2, 3, 4))
    variance = 0.05 + normal(seed + 5, channels) ** 2

    def layer(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        running = (torch.from_numpy(mean), torch.from_numpy(variance))
        return F.batch_norm(z, *running, weight, bias, training=False, eps=eps)

    same(batch_norm(x, gamma, beta, eps, (mean, variance)), layer(*map(torch.from_numpy, (x, gamma, beta))))
    ours = batch_norm_gradient(error, x, gamma, eps, (mean, variance))
    for one, theirs in zip(ours, autograd(layer, error, x, gamma, beta), strict=True):
        same(one, theirs)


@EACH
@given(batches(), st.floats(0, 0.1), SEEDS)
def test_the_three_paths_of_batch_norm_add_up_to_the_short_formula(x: Array, eps: float, seed: int) -> None:
    gamma, error = normal(seed, x.shape[1]), normal(seed + 1, *x.shape)
    direct, by_mean, by_variance = batch_norm_paths(error, x, gamma, eps)
    for c in range(x.shape[1]):
        e, values = error[:, c], x[:, c]
        sigma = np.sqrt(values.var() + eps)
        unit = (values - values.mean()) / sigma
        same(direct[:, c], gamma[c] / sigma * e)
        same(by_mean[:, c], np.full_like(e, -gamma[c] / sigma * e.mean()))
        same(by_variance[:, c], -gamma[c] / sigma * unit * (e * unit).mean())


@EACH
@given(batches(), st.floats(1e-5, 0.1), SEEDS)
def test_batch_norms_gradient_is_orthogonal_to_one_and_almost_to_the_normalised_input(
    x: Array, eps: float, seed: int
) -> None:
    """⟨∂L/∂x, 1⟩ = 0 for every eps; ⟨∂L/∂x, x̂⟩ = γ/σ · ⟨error, x̂⟩ · eps / (variance + eps), which goes to 0."""
    gamma, error = normal(seed, x.shape[1]), normal(seed + 1, *x.shape)

    def layer(z: Tensor) -> Tensor:
        return F.batch_norm(z, None, None, torch.from_numpy(gamma), None, training=True, eps=eps)

    axes = (0, *range(2, x.ndim))
    mean, variance = batch_statistics(x)
    unit = normalised(x, mean, variance, eps)
    expected = gamma / np.sqrt(variance + eps) * (error * unit).sum(axis=axes) * eps / (variance + eps)
    for gradient in (autograd(layer, error, x)[0].numpy(), batch_norm_gradient(error, x, gamma, eps)[0]):
        same(gradient.sum(axis=axes), np.zeros(x.shape[1]))
        same((gradient * unit).sum(axis=axes), expected)


@EACH
@given(batches(), SEEDS)
def test_without_eps_batch_norms_gradient_is_what_a_straight_line_leaves_of_the_error(
    x: Array, seed: int
) -> None:
    """The residual of regressing the error on x̂, times γ/σ: so it is orthogonal to 1 and to x̂."""
    gamma, error = normal(seed, x.shape[1]), normal(seed + 1, *x.shape)
    gradient, _, _ = batch_norm_gradient(error, x, gamma, eps=0.0)
    for c in range(x.shape[1]):
        values, e = x[:, c].ravel(), error[:, c].ravel()
        line = np.stack([np.ones_like(values), values], axis=1)
        residual = e - line @ np.linalg.lstsq(line, e, rcond=None)[0]
        same(gradient[:, c].ravel(), gamma[c] / values.std() * residual)
        same(line.T @ gradient[:, c].ravel(), np.zeros(2))
