"""ALMA against closed forms on linear networks, and its penalty against autograd."""

from __future__ import annotations

import pytest
import torch
from helpers.attack_scenes import ONE, TWO, distances, linear_scene, rng, small_batch, small_net

from probe.attacks.families.alma import ALMA, constraint_step, penalty_slope
from probe.attacks.families.fmn import FMN
from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm

FAR = 1000.0
BOTH = pytest.mark.parametrize("norm", [TWO, ONE], ids=["L2", "L1"])


def penalty(y: torch.Tensor, strength: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """P2 of Rony et al. 2021."""
    violated = weight * y + weight * strength * y**2 + strength**2 * y**3 / 6
    return torch.where(y >= 0, violated, weight * y / (1 - strength * y.clamp_max(0)))


def test_penalty_slope_is_the_derivative_of_the_penalty() -> None:
    y = torch.linspace(-2, 2, 41, dtype=torch.double).requires_grad_()
    for strength, weight in ((0.5, 1.0), (2.0, 0.1), (1.2, 30.0)):
        rho, mu = torch.full_like(y, strength).detach(), torch.full_like(y, weight).detach()
        (expected,) = torch.autograd.grad(penalty(y, rho, mu).sum(), y)
        assert torch.allclose(penalty_slope(y.detach(), rho, mu), expected, rtol=1e-12)


@BOTH
def test_constraint_step_reaches_the_plane(norm: Norm) -> None:
    slope = torch.randn(3, 1, 4, 4, generator=rng())
    constraint = torch.tensor([0.5, 1.0, 2.0])
    step = constraint_step(constraint, slope, norm)
    assert torch.allclose((step * slope).flatten(1).sum(1), constraint, rtol=1e-5)
    order = 2 if norm is TWO else torch.inf
    assert torch.allclose(norm.size(step), constraint / slope.flatten(1).norm(order, dim=1), rtol=1e-5)


@BOTH
@pytest.mark.parametrize("polish", [True, False])
def test_alma_finds_the_nearest_plane(norm: Norm, polish: bool) -> None:
    linear, images, labels = linear_scene(5, 4)
    exact = distances(linear.module, images, labels, norm).min(1)  # type: ignore[arg-type]
    found = ALMA(steps=500, polish=polish).perturb(linear, images, labels, norm, FAR, rng())
    sizes = norm.size(found - images).numpy()
    assert (linear.verdict(found).argmax(1) != labels).all()
    assert (sizes >= exact * (1 - 1e-4)).all()
    slack = {(True, "L2"): 1.01, (True, "L1"): 1.15}.get((polish, norm.name), 1.3)
    assert (sizes <= exact * slack).all(), sizes / exact


def test_alma_is_as_near_as_fmn_at_a_thousand_steps() -> None:
    images, labels = small_batch()
    model = AttackedModel(small_net())
    medians = []
    for attack in (ALMA(steps=1000), FMN(steps=1000)):
        found = attack.perturb(model, images, labels, TWO, FAR, rng())
        assert (model.verdict(found).argmax(1) != labels).all()
        medians.append(float(TWO.size(found - images).median()))
    assert medians[0] <= medians[1] * 1.01
