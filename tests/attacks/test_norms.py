"""The norms against numpy and exact projections in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from probe.attacks.norms import L0, L1, L2, NORMS, Linf, Norm, get_norm, per_image
from probe.core.errors import UsageError

EVERY = pytest.mark.parametrize("norm", list(NORMS.values()), ids=list(NORMS))
RADII = {"Linf": 0.2, "L2": 0.9, "L1": 3.0, "L0": 5.0}
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
SEEDS = st.integers(0, 2**31)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(shape: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Images, some of whose pixels are exactly 0 or 1, and where they were moved: also out of [0, 1]."""
    g = rng(seed)
    images = (torch.rand(shape, generator=g) * 1.4 - 0.2).clamp(0, 1)
    return images, images + torch.randn(shape, generator=g) * 0.7


def numpy_size(norm: Norm, delta: Tensor) -> np.ndarray:
    values = delta.double().numpy()
    flat = values.reshape(len(values), -1)
    if norm.name == "L0":
        return (values != 0).any(1).reshape(len(values), -1).sum(1)
    return np.linalg.norm(flat, {"Linf": np.inf, "L2": 2, "L1": 1}[norm.name], axis=1)


def slack(norm: Norm, delta: Tensor) -> float:
    return 0 if norm.name == "L0" else 2e-6 * max(1.0, math.sqrt(delta[0].numel()))


@EVERY
@given(shape=SHAPES, seed=SEEDS)
def test_size_is_numpys(norm: Norm, shape: tuple[int, ...], seed: int) -> None:
    images, moved = drawn(shape, seed)
    delta = torch.where(torch.rand(shape, generator=rng(seed)) < 0.5, moved - images, 0.0)
    assert norm.size(delta).tolist() == pytest.approx(numpy_size(norm, delta).tolist(), rel=1e-5)


@EVERY
@given(shape=SHAPES, seed=SEEDS, share=st.floats(0, 1.2), each=st.booleans())
def test_projection_lies_in_the_ball_and_the_range_and_stays_there(
    norm: Norm, shape: tuple[int, ...], seed: int, share: float, each: bool
) -> None:
    images, moved = drawn(shape, seed)
    top = norm.largest(shape[1:])
    radius = top * share * (torch.rand(shape[0], generator=rng(seed)) if each else torch.ones(shape[0]))
    projected = norm.project(images, moved, radius if each else float(radius[0]))
    assert projected.min() >= 0
    assert projected.max() <= 1
    allowed = radius.double().numpy() + slack(norm, images)
    assert (numpy_size(norm, projected - images) <= allowed).all()
    again = norm.project(images, projected, radius if each else float(radius[0]))
    assert torch.allclose(again, projected, atol=2e-6)


@EVERY
@given(shape=SHAPES, seed=SEEDS)
def test_a_point_inside_is_not_moved(norm: Norm, shape: tuple[int, ...], seed: int) -> None:
    images, moved = drawn(shape, seed)
    inside = moved.clamp(0, 1)
    radius = norm.size(inside - images)
    radius = radius if norm.name == "L0" else radius * 1.001 + 1e-6
    assert torch.allclose(norm.project(images, inside, radius), inside, atol=3e-7)


@EVERY
@given(shape=SHAPES, seed=SEEDS)
def test_radius_zero_gives_the_images(norm: Norm, shape: tuple[int, ...], seed: int) -> None:
    images, moved = drawn(shape, seed)
    assert torch.allclose(norm.project(images, moved, 0.0), images, atol=1e-6)


@given(shape=SHAPES, seed=SEEDS, radius=st.floats(0, 1))
def test_linf_projection_is_the_nearest_point(shape: tuple[int, ...], seed: int, radius: float) -> None:
    images, moved = drawn(shape, seed)
    x, z = images.double().numpy(), moved.double().numpy()
    exact = np.clip(z, np.maximum(0, x - radius), np.minimum(1, x + radius))
    np.testing.assert_allclose(Linf().project(images, moved, radius).numpy(), exact, atol=2e-7)


@given(shape=SHAPES, seed=SEEDS, radius=st.floats(0.01, 3))
def test_l2_projection_is_the_shortened_step_clipped(
    shape: tuple[int, ...], seed: int, radius: float
) -> None:
    images, moved = drawn(shape, seed)
    for i in range(shape[0]):
        x, z = images[i].double().numpy(), moved[i].double().numpy()
        length = np.sqrt(((z - x) ** 2).sum())
        exact = np.clip(x + (z - x) * min(1.0, radius / length), 0, 1)
        np.testing.assert_allclose(L2().project(images, moved, radius)[i].numpy(), exact, atol=1e-6)


def l1_nearest(x: np.ndarray, z: np.ndarray, radius: float) -> np.ndarray:
    """The nearest point to z with ‖y − x‖₁ ≤ radius and 0 ≤ y ≤ 1, by its Lagrange multiplier."""

    def at(multiplier: float) -> np.ndarray:
        pull = np.sign(z - x) * np.maximum(np.abs(z - x) - multiplier, 0)
        return np.clip(x + pull, 0, 1)

    def excess(multiplier: float) -> float:
        return float(np.abs(at(multiplier) - x).sum() - radius)

    if excess(0.0) <= 0:
        return at(0.0)
    return at(float(brentq(excess, 0.0, float(np.abs(z - x).max()), xtol=1e-14)))


@given(shape=SHAPES, seed=SEEDS, share=st.floats(0.001, 0.9))
def test_l1_projection_is_the_nearest_point_of_ball_and_box(
    shape: tuple[int, ...], seed: int, share: float
) -> None:
    images, moved = drawn(shape, seed)
    radius = L1().size(moved - images) * share
    projected = L1().project(images, moved, radius)
    for i in range(shape[0]):
        x, z = images[i].double().numpy(), moved[i].double().numpy()
        exact = l1_nearest(x, z, float(radius[i]))
        np.testing.assert_allclose(projected[i].numpy(), exact, atol=3e-6)


def test_l1_reference_is_no_further_than_any_point_of_ball_and_box() -> None:
    draws = np.random.default_rng(0)
    x, z = draws.random(6), draws.normal(0.5, 1.0, 6)
    best = np.linalg.norm(l1_nearest(x, z, 0.8) - z)
    points = draws.random((200_000, 6))
    points = points[np.abs(points - x).sum(1) <= 0.8]
    assert len(points) > 50
    assert np.linalg.norm(points - z, axis=1).min() >= best


@given(shape=SHAPES, seed=SEEDS, count=st.integers(0, 8))
def test_l0_projection_keeps_the_pixels_of_largest_movement(
    shape: tuple[int, ...], seed: int, count: int
) -> None:
    images, moved = drawn(shape, seed)
    projected = L0().project(images, moved, count + 0.5).numpy()
    x, z = images.double().numpy(), np.clip(moved.double().numpy(), 0, 1)
    for i in range(shape[0]):
        moves = ((z[i] - x[i]) ** 2).sum(0).ravel()
        least = np.sort(moves)[::-1][: count + 1]
        kept = (projected[i] == moved[i].clamp(0, 1).numpy()).all(0).ravel()
        still = (projected[i] == images[i].numpy()).all(0).ravel()
        assert (kept | still).all()
        assert (~still).sum() <= count
        if count < len(moves):
            assert (moves[~still] >= least[count] - 1e-6).all()
            assert (moves[~kept] <= least[max(count - 1, 0)] + 1e-6).all()
        else:
            assert kept.all()


@EVERY
@given(shape=SHAPES, seed=SEEDS, scale=st.sampled_from([1.0, 1e-12, 1e-30, 1e12]))
def test_steepest_reaches_the_dual_norm_at_size_one(
    norm: Norm, shape: tuple[int, ...], seed: int, scale: float
) -> None:
    gradient = torch.randn(shape, generator=rng(seed)) * scale
    step = norm.steepest(gradient)
    g = gradient.double().numpy().reshape(shape[0], -1)
    s = step.double().numpy().reshape(shape[0], -1)
    if norm.name == "L0":  # documented: the gradient at L1 length 1
        np.testing.assert_allclose(s, g / np.abs(g).sum(1, keepdims=True), rtol=1e-4, atol=1e-7)
        return
    dual = np.linalg.norm(g, {"Linf": 1, "L2": 2, "L1": np.inf}[norm.name], axis=1)
    np.testing.assert_allclose((g * s).sum(1), dual, rtol=1e-5)
    np.testing.assert_allclose(numpy_size(norm, step), 1, rtol=1e-5)


@EVERY
def test_steepest_of_no_gradient_is_nothing_and_only_there(norm: Norm) -> None:
    gradient = torch.zeros(2, 3, 4, 4)
    gradient[1, 0, 2, 1] = -3.0
    step = norm.steepest(gradient)
    assert torch.equal(step[0], torch.zeros(3, 4, 4))
    assert step[1].sum() == -1


@EVERY
@given(shape=SHAPES, seed=SEEDS, share=st.floats(0.01, 1))
def test_start_is_inside_and_moves(norm: Norm, shape: tuple[int, ...], seed: int, share: float) -> None:
    images = drawn(shape, seed)[0]
    radius = norm.largest(shape[1:]) * share
    begun = norm.start(images, radius, rng(seed))
    assert begun.min() >= 0
    assert begun.max() <= 1
    assert (numpy_size(norm, begun - images) <= radius + slack(norm, images)).all()
    assert torch.equal(begun, norm.start(images, radius, rng(seed)))


@EVERY
def test_start_differs_between_images_and_seeds_and_uses_the_ball(norm: Norm) -> None:
    images = torch.full((400, 3, 5, 5), 0.5)
    radius = RADII[norm.name]
    begun = norm.start(images, radius, rng())
    assert not torch.equal(begun, norm.start(images, radius, rng(1)))
    sizes = numpy_size(norm, begun - images)
    assert len(np.unique(begun.numpy().reshape(400, -1), axis=0)) == 400
    assert sizes.max() > 0.97 * radius
    assert abs(float((begun - images).mean())) < 0.01
    if norm.name in ("L2", "L1"):  # a length uniform up to the radius
        assert 0.4 * radius < np.median(sizes) < 0.6 * radius
    if norm.name == "L0":
        assert (sizes == radius).all()


def test_linf_start_is_uniform() -> None:
    from scipy.stats import kstest

    images = torch.full((100, 1, 5, 5), 0.5)
    noise = (Linf().start(images, 0.2, rng()) - images).numpy().ravel()
    assert kstest(noise, "uniform", (-0.2, 0.4)).pvalue > 0.001


@EVERY
def test_memory_format_changes_no_number(norm: Norm) -> None:
    images, moved = drawn((3, 3, 6, 5), 4)
    placed = images.contiguous(memory_format=torch.channels_last)
    radius = RADII[norm.name]
    begun = norm.start(placed, radius, rng())
    assert torch.equal(begun, norm.start(images, radius, rng()))
    wide = moved.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(norm.project(placed, wide, radius), norm.project(images, moved, radius), atol=1e-6)
    assert torch.allclose(norm.steepest(wide), norm.steepest(moved), atol=1e-6)
    assert norm.size(wide).tolist() == pytest.approx(norm.size(moved).tolist(), rel=1e-6)


@EVERY
def test_largest_is_the_way_from_black_to_white(norm: Norm) -> None:
    expected = {"Linf": 1.0, "L2": math.sqrt(60), "L1": 60.0, "L0": 20.0}
    assert norm.largest((3, 4, 5)) == pytest.approx(expected[norm.name])


def test_values_per_image_broadcast() -> None:
    like = torch.zeros(3, 2, 1, 1)
    assert per_image(torch.tensor([1.0, 2.0, 3.0]), like).shape == (3, 1, 1, 1)
    assert per_image(0.5, like).dtype == torch.float32


def test_norms_have_names_in_any_case() -> None:
    assert get_norm("linf") == Linf()
    assert get_norm("L2") == L2()
    with pytest.raises(UsageError, match="Linf, L2, L1, L0"):
        get_norm("L3")
