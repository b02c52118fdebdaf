"""FMN and σ-zero against closed forms on linear networks and the adversarial images of others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.attack_scenes import LINF, ONE, TWO, distances, linear_scene, rng, small_batch, small_net
from torch import Tensor, nn

from probe.attacks.base import Attack, AttackInputs
from probe.attacks.families.fmn import FMN
from probe.attacks.families.sigma_zero import SigmaZero
from probe.attacks.foolbox_adapter import foolbox
from probe.attacks.model import AttackedModel
from probe.attacks.norms import L0, Norm
from probe.attacks.smallest import Smallest
from probe.attacks.torchattacks_adapter import silent
from probe.core.seeds import scoped

FAR = 1000.0
ZERO = L0()
EVERY = pytest.mark.parametrize("norm", [LINF, TWO, ONE], ids=["Linf", "L2", "L1"])
SPARSE = pytest.mark.parametrize("attack", [FMN(steps=200), SigmaZero(steps=200)], ids=["fmn", "sigma-zero"])


class Pixels(nn.Module):
    """Two classes: the second wins once the weighted sum of the changes from grey passes a threshold."""

    def __init__(self, weights: Tensor, threshold: float) -> None:
        super().__init__()
        self.weights, self.threshold = weights, threshold

    def forward(self, x: Tensor) -> Tensor:
        gain = ((x - 0.5) * self.weights).flatten(1).sum(1) - self.threshold
        return torch.stack([-gain, gain], 1)


def fewest(weights: Tensor, threshold: float) -> int:
    """The fewest pixels that reach the threshold: each adds at most half of its weights' L1 length."""
    most = weights.abs().sum(0).flatten().sort(descending=True).values.cumsum(0) / 2
    return int((most <= threshold).sum()) + 1


@EVERY
def test_fmn_finds_the_nearest_plane(norm: Norm) -> None:
    linear, images, labels = linear_scene(5, 4)
    exact = distances(linear.module, images, labels, norm).min(1)  # type: ignore[arg-type]
    found = FMN(steps=300).perturb(linear, images, labels, norm, FAR, rng())
    sizes = norm.size(found - images).numpy()
    assert (linear.verdict(found).argmax(1) != labels).all()
    assert (sizes >= exact * (1 - 1e-4)).all()
    assert (sizes <= exact * (1.05 if norm is ONE else 1.01)).all(), sizes / exact


@EVERY
def test_targeted_fmn_finds_the_plane_of_a_target_of_two(norm: Norm) -> None:
    linear, images, labels = linear_scene(2, 4)
    exact = distances(linear.module, images, labels, norm).min(1)  # type: ignore[arg-type]
    found = FMN(steps=300).perturb(linear, images, labels, norm, FAR, rng(), 1 - labels)
    assert torch.equal(linear.verdict(found).argmax(1), 1 - labels)
    assert (norm.size(found - images).numpy() <= exact * 1.05).all()


@SPARSE
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_fewest_pixels_of_a_linear_network(attack: Attack, channels: int, targeted: bool) -> None:
    weights = torch.randn(channels, 6, 6, generator=rng())
    threshold = float(weights.abs().sum(0).flatten().sort(descending=True).values[:4].sum() / 2) - 0.05
    model = AttackedModel(Pixels(weights, threshold))
    images, labels = torch.full((2, channels, 6, 6), 0.5), torch.zeros(2, dtype=torch.long)
    found = attack.perturb(model, images, labels, ZERO, FAR, rng(), 1 - labels if targeted else None)
    assert (model.verdict(found).argmax(1) == 1).all()
    assert fewest(weights, threshold) == 4
    assert (ZERO.size(found - images) <= (5 if isinstance(attack, FMN) else 4)).all()


@pytest.mark.parametrize("norm", [LINF, TWO, ONE, ZERO], ids=["Linf", "L2", "L1", "L0"])
def test_fmn_is_nearer_than_foolbox(norm: Norm) -> None:
    images, labels = small_batch()
    model = AttackedModel(small_net())
    found = FMN().perturb(model, images, labels, norm, FAR, rng())
    peers = {"Linf": "LInfFMNAttack", "L2": "L2FMNAttack", "L1": "L1FMNAttack", "L0": "L0FMNAttack"}
    with silent(), scoped(0, "foolbox"):
        peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        theirs = getattr(foolbox.attacks, peers[norm.name])(steps=100)(peer, images, labels, epsilons=None)[1]
    medians = []
    for moved in (found, theirs):
        reached = model.verdict(moved).argmax(1) != labels
        medians.append(np.median(torch.where(reached, norm.size(moved - images), torch.inf).numpy()))
    assert medians[0] <= medians[1] * 1.01


def test_sigma_zero_reverts_pixels_that_are_not_needed() -> None:
    images, labels = small_batch()
    model = AttackedModel(small_net())
    plain = SigmaZero(steps=60, prune=False).perturb(model, images, labels, ZERO, FAR, rng())
    pruned = SigmaZero(steps=75).perturb(model, images, labels, ZERO, FAR, rng())
    # Both descend for the same 60 steps, so pruning can only help.
    before, after = ZERO.size(plain - images), ZERO.size(pruned - images)
    assert (after <= before).all()
    assert (after < before).any()


def test_no_pixel_of_a_pruned_image_can_be_reverted() -> None:
    weights = torch.rand(1, 4, 4, generator=rng()) + 0.5
    model = AttackedModel(Pixels(weights, 0.9))
    images = torch.full((1, 1, 4, 4), 0.5)
    inputs = AttackInputs(model, images, torch.zeros(1, dtype=torch.long), ZERO, FAR, rng())
    best = Smallest(inputs)
    assert best.try_out(torch.ones_like(images)).all()
    best.drop_pixels(weights[None], 100)
    changed = (best.images != images).flatten().nonzero()[:, 0].tolist()
    assert len(changed) == fewest(weights, 0.9)
    for place in changed:
        reverted = best.images.flatten().clone()
        reverted[place] = 0.5
        assert model.verdict(reverted.reshape(1, 1, 4, 4)).argmax(1) == 0


def test_images_without_a_gradient_are_found_on_the_way_to_black_or_white() -> None:
    class Dark(nn.Module):
        """Class 1 where an image is darker than 0.1 on average; the logits are steps, without gradients."""

        def forward(self, x: Tensor) -> Tensor:
            dark = (x.mean((1, 2, 3)) < 0.1).float() + 0 * x.sum((1, 2, 3))
            return torch.stack([1 - dark, dark], 1)

    model = AttackedModel(Dark())
    images = torch.full((2, 1, 5, 5), 0.5)
    found = FMN(steps=10).perturb(model, images, torch.zeros(2, dtype=torch.long), LINF, 1.0, rng())
    # 0.4 is the exact size; ten bisections of 0.5 come within 0.0005 of it.
    assert LINF.size(found - images).tolist() == pytest.approx([0.4, 0.4], abs=0.001)


@pytest.mark.parametrize("norm", [LINF, TWO, ONE, ZERO], ids=["Linf", "L2", "L1", "L0"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps_and_wrong_images(norm: Norm, steps: int) -> None:
    images, labels = small_batch()
    model = AttackedModel(small_net())
    wrong = (labels + 1) % 10
    assert torch.equal(FMN(steps=steps).perturb(model, images, wrong, norm, FAR, rng()), images)
    if norm is ZERO:
        assert torch.equal(SigmaZero(steps=steps).perturb(model, images, wrong, norm, FAR, rng()), images)
