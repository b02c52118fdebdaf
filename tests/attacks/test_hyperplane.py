"""Steps to a hyperplane within [0, 1] against linear programming and a float64 root search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog

from probe.attacks.families.fab import step_to_hyperplane
from probe.attacks.norms import L0, L1, L2, NORMS, Linf, Norm

THREE = pytest.mark.parametrize("norm", [Linf(), L2(), L1()], ids=["Linf", "L2", "L1"])
SIZE = {"Linf": np.inf, "L2": 2, "L1": 1}


def smallest(x: np.ndarray, w: np.ndarray, c: float, norm: Norm) -> float:
    """The size of the smallest step d with ⟨w, d⟩ = c and x + d in [0, 1], in float64."""
    d = len(x)
    if norm.name == "Linf":
        sides = np.vstack(
            [np.hstack([np.eye(d), -np.ones((d, 1))]), np.hstack([-np.eye(d), -np.ones((d, 1))])]
        )
        found = linprog(
            np.r_[np.zeros(d), 1.0],
            A_ub=sides,
            b_ub=np.zeros(2 * d),
            A_eq=np.r_[w, 0.0][None],
            b_eq=[c],
            bounds=[*zip(-x, 1 - x, strict=True), (0, None)],
        )
        return float(found.fun)
    if norm.name == "L1":
        found = linprog(
            np.ones(2 * d),
            A_eq=np.r_[w, -w][None],
            b_eq=[c],
            bounds=[*zip(np.zeros(d), 1 - x, strict=True), *zip(np.zeros(d), x, strict=True)],
        )
        return float(found.fun)

    def step(multiplier: float) -> np.ndarray:
        return np.clip(multiplier * w, -x, 1 - x)

    root = brentq(lambda t: float(step(t) @ w - c), -1e6, 1e6, xtol=1e-13)
    return float(np.linalg.norm(step(root)))


def reach(x: np.ndarray, w: np.ndarray, sign: float) -> float:
    """What ⟨w, d⟩ can be at most in the direction of the sign."""
    signed = w * sign
    return float((np.abs(w) * np.where(signed > 0, 1 - x, x)).sum())


def scene(seed: int, d: int, edges: bool) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    x = draws.random(d)
    if edges:
        x = np.clip(x * 1.6 - 0.3, 0, 1)
    w = draws.normal(size=d)
    w[draws.random(d) < 0.15] = 0.0
    w[0] = draws.choice([-1.0, 1.0])
    x[0] = 0.5  # so that there is room in both directions
    return x.astype(np.float32).astype(np.float64), w.astype(np.float32).astype(np.float64)


def run(x: np.ndarray, w: np.ndarray, c: float, norm: Norm) -> np.ndarray:
    step = step_to_hyperplane(
        torch.tensor(x[None], dtype=torch.float32),
        torch.tensor(w[None], dtype=torch.float32),
        torch.tensor([c], dtype=torch.float32),
        norm,
    )
    return step[0].double().numpy()


@THREE
@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    d=st.integers(1, 24),
    share=st.floats(0.01, 0.97),
    sign=st.sampled_from([-1.0, 1.0]),
    edges=st.booleans(),
)
def test_step_is_the_smallest_and_lands_on_the_plane(
    norm: Norm, seed: int, d: int, share: float, sign: float, edges: bool
) -> None:
    x, w = scene(seed, d, edges)
    c = float(np.float32(share * sign * reach(x, w, sign)))
    step = run(x, w, c, norm)
    assert (x + step >= -1e-6).all()
    assert (x + step <= 1 + 1e-6).all()
    assert step @ w == pytest.approx(c, rel=1e-4, abs=1e-5)
    best = smallest(x, w, c, norm)
    assert np.linalg.norm(step, SIZE[norm.name]) == pytest.approx(best, rel=1e-4, abs=1e-6)


@THREE
def test_without_edges_in_the_way_it_is_the_closed_form(norm: Norm) -> None:
    draws = np.random.default_rng(1)
    x, w = np.full(30, 0.5), draws.normal(size=30)
    c = 0.05
    dual = {"Linf": np.abs(w).sum(), "L2": np.linalg.norm(w), "L1": np.abs(w).max()}[norm.name]
    step = run(x, w, c, norm)
    assert np.linalg.norm(step, SIZE[norm.name]) == pytest.approx(c / dual, rel=1e-5)
    direction = {
        "Linf": np.sign(w) / np.abs(w).sum(),
        "L2": w / (w @ w),
        "L1": np.where(np.abs(w) == np.abs(w).max(), 1 / w, 0),
    }[norm.name]
    np.testing.assert_allclose(step, c * direction, rtol=1e-4, atol=1e-8)


@THREE
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_plane_out_of_reach_gives_the_nearest_corner(norm: Norm, sign: float) -> None:
    for seed in range(10):
        x, w = scene(seed, 12, True)
        step = run(x, w, sign * (reach(x, w, sign) * 1.1 + 0.1), norm)
        corner = np.where(w == 0, x, (sign * w > 0).astype(float))
        np.testing.assert_allclose(x + step, corner, atol=1e-6)


@THREE
@pytest.mark.parametrize("deficit", [-0.3, 0.0, 0.3])
def test_no_weights_give_no_step(norm: Norm, deficit: float) -> None:
    step = run(np.array([0.2, 0.7, 1.0]), np.zeros(3), deficit, norm)
    assert np.array_equal(step, np.zeros(3))


@THREE
def test_no_deficit_gives_no_step(norm: Norm) -> None:
    x, w = scene(3, 9, False)
    assert np.array_equal(run(x, w, 0.0, norm), np.zeros(9))


@THREE
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_of_the_plane_does_not_matter(norm: Norm, scale: float) -> None:
    x, w = scene(5, 16, True)
    c = 0.4 * reach(x, w, 1.0)
    np.testing.assert_allclose(run(x, w * scale, c * scale, norm), run(x, w, c, norm), rtol=1e-3, atol=1e-6)


@THREE
def test_rows_do_not_mix(norm: Norm) -> None:
    scenes = [scene(seed, 10, True) for seed in range(6)]
    needs = [0.3 * s * reach(x, w, s) for (x, w), s in zip(scenes, [1, -1] * 3, strict=True)]
    together = step_to_hyperplane(
        torch.tensor(np.stack([x for x, _ in scenes]), dtype=torch.float32),
        torch.tensor(np.stack([w for _, w in scenes]), dtype=torch.float32),
        torch.tensor(needs, dtype=torch.float32),
        norm,
    )
    for row, (x, w), c in zip(together, scenes, needs, strict=True):
        np.testing.assert_allclose(row.numpy(), run(x, w, c, norm), atol=1e-7)
        assert np.linalg.norm(row.numpy(), SIZE[norm.name]) == pytest.approx(
            smallest(x, w, c, norm), rel=1e-4
        )


def test_there_is_no_rule_for_counting_pixels() -> None:
    assert "L0" in NORMS
    with pytest.raises(ValueError, match="L0"):
        step_to_hyperplane(torch.rand(1, 3), torch.rand(1, 3), torch.rand(1), L0())
