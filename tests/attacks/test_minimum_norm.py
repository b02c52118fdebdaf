"""DeepFool, Carlini and Wagner, and FAB against closed forms, torchattacks and foolbox."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchattacks
from helpers.attack_scenes import (
    LINF,
    ONE,
    TWO,
    Linear,
    distances,
    linear_scene,
    rng,
    small_batch,
    small_net,
)
from torch import Tensor, nn

from probe.attacks.base import Attack
from probe.attacks.families.cw import CarliniWagner
from probe.attacks.families.deepfool import DeepFool
from probe.attacks.families.fab import Fab, FabT
from probe.attacks.foolbox_adapter import foolbox
from probe.attacks.judge import margin
from probe.attacks.model import AttackedModel
from probe.attacks.norms import Norm
from probe.attacks.torchattacks_adapter import silent
from probe.core.seeds import scoped

FAR = 100.0
"""An epsilon that bounds no search."""


def model() -> AttackedModel:
    return AttackedModel(small_net())


def ours(attack: Attack, norm: Norm) -> Tensor:
    images, labels = small_batch()
    return attack.perturb(model(), images, labels, norm, FAR, rng())


def sizes(found: Tensor, norm: Norm, tie: float = 0.0) -> np.ndarray:
    """The perturbations' sizes, inf where the network still has the label (by more than ``tie``)."""
    images, labels = small_batch()
    reached = margin(model().verdict(found), labels) < tie
    return torch.where(reached, norm.size(found - images), torch.inf).numpy()


def by_foolbox(attack: object) -> Tensor:
    images, labels = small_batch()
    with silent(), scoped(0, "foolbox"):
        peer = foolbox.PyTorchModel(model(), bounds=(0, 1), device="cpu")
        return attack(peer, images, labels, epsilons=None)[0]  # type: ignore[operator,no-any-return]


def nearest(norm: Norm, classes: int = 5) -> tuple[AttackedModel, Tensor, Tensor, np.ndarray]:
    linear, images, labels = linear_scene(classes, 4)
    return linear, images, labels, distances(linear.module, images, labels, norm).min(1)  # type: ignore[arg-type]


# DeepFool


@pytest.mark.parametrize("norm", [TWO, LINF], ids=["L2", "Linf"])
@pytest.mark.parametrize("overshoot", [0.02, 0.3])
def test_deepfool_finds_the_nearest_plane_exactly(norm: Norm, overshoot: float) -> None:
    linear, images, labels, exact = nearest(norm)
    found = DeepFool(overshoot=overshoot).perturb(linear, images, labels, norm, FAR, rng())
    assert (linear.verdict(found).argmax(1) != labels).all()
    assert norm.size(found - images).tolist() == pytest.approx((exact * (1 + overshoot)).tolist(), rel=1e-4)


def test_deepfool_with_few_candidates_still_crosses() -> None:
    linear, images, labels, exact = nearest(TWO)
    found = DeepFool(candidates=1).perturb(linear, images, labels, TWO, FAR, rng())
    assert (linear.verdict(found).argmax(1) != labels).all()
    assert (TWO.size(found - images).numpy() >= exact * 1.0199).all()


def test_deepfool_is_as_near_as_torchattacks_and_foolbox() -> None:
    found = sizes(ours(DeepFool(), TWO), TWO)
    images, labels = small_batch()
    theirs = [
        # One image at a time, torchattacks stops so near to the boundary that a batch may fall on its other side.
        sizes(torchattacks.DeepFool(model(), steps=50, overshoot=0.02)(images, labels), TWO, tie=1e-4),
        sizes(by_foolbox(foolbox.attacks.L2DeepFoolAttack(loss="logits")), TWO),
    ]
    for peer in theirs:
        assert np.isfinite(peer).sum() > 15
        assert np.isfinite(found).sum() >= np.isfinite(peer).sum()
        assert np.median(found) == pytest.approx(np.median(peer), rel=0.05)


def test_deepfool_in_linf_is_as_near_as_foolbox() -> None:
    found = sizes(ours(DeepFool(), LINF), LINF)
    peer = sizes(by_foolbox(foolbox.attacks.LinfDeepFoolAttack(loss="logits")), LINF)
    assert np.isfinite(found).sum() >= np.isfinite(peer).sum()
    assert np.median(found) == pytest.approx(np.median(peer), rel=0.05)


def test_deepfool_leaves_what_is_wrong_already() -> None:
    images, labels = small_batch()
    wrong = (labels + 1) % 10
    counted = model()
    assert torch.equal(DeepFool().perturb(counted, images, wrong, TWO, FAR, rng()), images)
    assert counted.queries == len(images)


# Networks without a way


class Flat(nn.Module):
    """Says class 0 of everything."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0]) + 0 * x.flatten(1)[:, :3]


class Cut(nn.Module):
    """Lets no gradient through."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0]) + 0.01 * x.detach().flatten(1)[:, :3]


@pytest.mark.parametrize("net", [Flat, Cut])
@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        (DeepFool(), TWO),
        (DeepFool(), LINF),
        (Fab(steps=5), LINF),
        (Fab(steps=5), TWO),
        (Fab(steps=5, restarts=2), ONE),
        (FabT(steps=5), TWO),
    ],
)
def test_without_gradients_the_image_comes_back_clean(
    net: type[nn.Module], attack: Attack, norm: Norm
) -> None:
    images = torch.rand(3, 1, 3, 3, generator=rng())
    labels = torch.zeros(3, dtype=torch.long)
    assert torch.equal(attack.perturb(AttackedModel(net()), images, labels, norm, 0.5, rng()), images)


def test_carlini_wagner_of_a_flat_network_is_the_clean_image() -> None:
    images = torch.rand(3, 1, 3, 3, generator=rng())
    labels = torch.zeros(3, dtype=torch.long)
    attack = CarliniWagner(steps=20, searches=3)
    assert torch.equal(attack.perturb(AttackedModel(Flat()), images, labels, TWO, 0.5, rng()), images)


# Carlini and Wagner


def test_carlini_wagner_finds_the_nearest_plane() -> None:
    # Of two classes: of several, a descent may end at the boundary of one that is not the nearest.
    linear, images, labels, exact = nearest(TWO, classes=2)
    attack = CarliniWagner(steps=400, lr=0.002)
    found = attack.perturb(linear, images, labels, TWO, FAR, rng())
    assert (linear.verdict(found).argmax(1) != labels).all()
    ratio = TWO.size(found - images).numpy() / exact
    assert (ratio >= 1 - 1e-4).all()
    assert (ratio <= 1.02).all(), ratio


def test_carlini_wagner_is_as_near_as_foolbox() -> None:
    found = sizes(ours(CarliniWagner(), TWO), TWO)
    peer = sizes(
        by_foolbox(
            foolbox.attacks.L2CarliniWagnerAttack(
                binary_search_steps=9, steps=500, stepsize=0.01, initial_const=0.01
            )
        ),
        TWO,
    )
    assert np.isfinite(found).all()
    assert np.isfinite(found).sum() >= np.isfinite(peer).sum()
    assert np.median(found) <= np.median(peer) * 1.05
    assert np.median(found) >= np.median(peer) * 0.85


def test_carlini_wagner_moves_pixels_that_are_black_or_white() -> None:
    weights = torch.zeros(2, 8)
    weights[0, :4], weights[0, 4:] = -1.0, 1.0
    images = torch.cat([torch.zeros(4), torch.ones(4)]).reshape(1, 1, 2, 4)
    linear = AttackedModel(Linear(weights, torch.tensor([-3.0, 0.0])))
    label = torch.tensor([0])
    assert linear.verdict(images).tolist() == [[1.0, 0.0]]
    found = CarliniWagner().perturb(linear, images, label, TWO, FAR, rng())
    assert linear.verdict(found).argmax(1).item() == 1
    # All eight move alike, by an eighth of the margin: √8 / 8 in all.
    assert float(TWO.size(found - images)) == pytest.approx(8**0.5 / 8, rel=0.02)
    assert (found - images).abs().flatten().tolist() == pytest.approx([0.125] * 8, rel=0.05)


@pytest.mark.parametrize(
    "attack", [CarliniWagner(lr=0.002, steps=400), Fab(), FabT()], ids=["cw", "fab", "fab-t"]
)
def test_targeted_finds_the_nearest_image_of_the_target(attack: Attack) -> None:
    from scipy.optimize import minimize

    linear, images, labels, _ = nearest(TWO)
    images, labels = images[:4], labels[:4]
    targets = (labels + 2) % 5
    found = attack.perturb(linear, images, labels, TWO, FAR, rng(), targets)
    assert torch.equal(linear.verdict(found).argmax(1), targets)
    weights = linear.module.weights.detach().double().numpy()  # type: ignore[union-attr,operator]
    for image, t, size in zip(images, targets.tolist(), TWO.size(found - images).tolist(), strict=True):
        x = image.double().flatten().numpy()
        normals = weights[t] - np.delete(weights, t, 0)
        best = minimize(
            lambda d: d @ d,
            np.zeros(len(x)),
            jac=lambda d: 2 * d,
            constraints={
                "type": "ineq",
                "fun": lambda d, x=x, n=normals: n @ (x + d - 0.5),
                "jac": lambda d, n=normals: n,
            },
            method="SLSQP",
        )
        assert best.success
        exact = np.sqrt(best.fun)
        assert exact * (1 - 1e-3) <= size <= exact * (1.02 if isinstance(attack, CarliniWagner) else 1.1)


def test_carlini_wagner_keeps_its_distance_from_the_boundary_when_asked_to() -> None:
    linear, images, labels, _ = nearest(TWO)
    attack = CarliniWagner(confidence=0.5, steps=400, lr=0.002)
    found = attack.perturb(linear, images, labels, TWO, FAR, rng())
    margins = margin(linear.verdict(found), labels)
    assert (margins <= -0.5 + 1e-4).all()
    assert (margins >= -0.55).all()


# FAB


@pytest.mark.parametrize("norm", [LINF, TWO, ONE], ids=["Linf", "L2", "L1"])
@pytest.mark.parametrize("kind", [Fab, FabT])
def test_fab_finds_the_nearest_plane(norm: Norm, kind: type[Fab] | type[FabT]) -> None:
    linear, images, labels, exact = nearest(norm)
    found = kind(steps=60).perturb(linear, images, labels, norm, FAR, rng())
    assert (linear.verdict(found).argmax(1) != labels).all()
    ratio = norm.size(found - images).numpy() / exact
    assert (ratio >= 1 - 1e-3).all(), ratio
    assert (ratio <= 1.01).all(), ratio


@pytest.mark.parametrize("norm", [LINF, TWO, ONE], ids=["Linf", "L2", "L1"])
def test_fab_is_as_near_as_torchattacks(norm: Norm) -> None:
    images, labels = small_batch()
    found = sizes(ours(Fab(steps=40), norm), norm)
    peer = torchattacks.FAB(model(), norm=norm.name, eps=FAR, steps=40, n_classes=10)
    with silent(), scoped(0, "peer"):
        # Its outer loop does not know L1.
        theirs = sizes(peer.attack_single_run(images, labels), norm)
    assert np.isfinite(found).all()
    assert np.isfinite(found).sum() >= np.isfinite(theirs).sum()
    assert np.median(found) == pytest.approx(np.median(theirs), rel=0.05)


@pytest.mark.parametrize("norm", [LINF, TWO, ONE], ids=["Linf", "L2", "L1"])
def test_nine_targets_find_nothing_much_further(norm: Norm) -> None:
    plain = sizes(ours(Fab(steps=30), norm), norm)
    aimed = sizes(ours(FabT(steps=30), norm), norm)
    assert np.isfinite(aimed).all()
    assert (aimed <= plain * 1.1).mean() >= 0.9
    assert np.median(aimed) <= np.median(plain) * 1.02


@pytest.mark.parametrize("norm", [LINF, TWO, ONE], ids=["Linf", "L2", "L1"])
def test_fab_is_hardly_further_than_deepfool_and_restarts_bring_no_harm(norm: Norm) -> None:
    images, labels = small_batch()
    once = sizes(Fab(steps=15).perturb(model(), images, labels, norm, FAR, rng()), norm)
    twice = sizes(Fab(steps=15, restarts=2).perturb(model(), images, labels, norm, FAR, rng()), norm)
    assert (twice <= once + 1e-6).all()
    if norm is not ONE:
        deepfool = sizes(ours(DeepFool(), norm), norm)
        assert np.median(once) <= np.median(deepfool) * 1.01
        assert np.mean(once) <= np.mean(deepfool) * 1.01


@pytest.mark.parametrize("kind", [Fab, FabT])
def test_enough_stops_at_epsilon_and_spares_passes(kind: type[Fab] | type[FabT]) -> None:
    images, labels = small_batch()
    full, short = model(), model()
    epsilon = float(np.median(sizes(ours(Fab(steps=20), LINF), LINF))) * 1.2
    exact = kind(steps=20).perturb(full, images, labels, LINF, epsilon, rng())
    found = kind(steps=20, enough=True).perturb(short, images, labels, LINF, epsilon, rng())
    assert short.queries < 0.8 * full.queries
    assert ((sizes(found, LINF) <= epsilon) == (sizes(exact, LINF) <= epsilon)).all()


@pytest.mark.parametrize(
    ("attack", "norm"), [(DeepFool(), TWO), (CarliniWagner(steps=50, searches=4), TWO), (Fab(steps=10), LINF)]
)
def test_images_do_not_depend_on_their_company(attack: Attack, norm: Norm) -> None:
    images, labels = small_batch()
    together = sizes(ours(attack, norm), norm)
    for i in (0, 7, 13):
        alone = attack.perturb(model(), images[i : i + 1], labels[i : i + 1], norm, FAR, rng())
        assert float(norm.size(alone - images[i : i + 1])) == pytest.approx(together[i], rel=0.02)
