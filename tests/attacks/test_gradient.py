"""FGSM and PGD against torchattacks, plain loops in float64 and closed forms."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
import torchattacks
from helpers.attack_scenes import (
    DUAL,
    LINF,
    ONE,
    TWO,
    between,
    distances,
    linear_scene,
    rng,
    small_batch,
    small_net,
    unsure_net,
)
from torch import Tensor, nn

from probe.attacks.base import AttackInputs
from probe.attacks.families.gradient import FGSM, PGD, Trace, sparse
from probe.attacks.judge import margin
from probe.attacks.losses import cross_entropy
from probe.attacks.model import AttackedModel
from probe.attacks.norms import L0, NORMS, Norm
from probe.core.state import frozen_parameters

EPSILONS = {"Linf": 0.08, "L2": 0.6, "L1": 2.0, "L0": 3.0}
TWO_NORMS = pytest.mark.parametrize("norm", [LINF, TWO], ids=["Linf", "L2"])


def model() -> AttackedModel:
    return AttackedModel(small_net())


def broken(images: Tensor, labels: Tensor) -> Tensor:
    return model().verdict(images).argmax(1) != labels


def climb(attack: PGD, norm: Norm, trace: Trace | None = None) -> tuple[Tensor, Tensor]:
    """One run from the images themselves."""
    images, labels = small_batch()
    with frozen_parameters(small_net()), torch.enable_grad():
        return attack.climb(AttackInputs(model(), images, labels, norm, EPSILONS[norm.name], rng()), trace)


@pytest.mark.parametrize("epsilon", [1 / 255, 0.05, 0.3])
def test_fgsm_is_torchattacks(epsilon: float) -> None:
    images, labels = small_batch()
    peer = torchattacks.FGSM(model(), eps=epsilon)(images, labels)
    assert torch.equal(FGSM().perturb(model(), images, labels, LINF, epsilon, rng()), peer)


def test_targeted_fgsm_is_torchattacks() -> None:
    images, labels = small_batch()
    targets = (labels + 3) % 10
    peer = torchattacks.FGSM(model(), eps=0.1)
    peer.set_mode_targeted_by_function(lambda x, y: targets, quiet=True)
    ours = FGSM().perturb(model(), images, labels, LINF, 0.1, rng(), targets)
    assert torch.equal(ours, peer(images, labels))


def test_l2_fgsm_is_one_full_step_along_the_gradient() -> None:
    images, labels = small_batch()
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(small_net()(leaf), labels), leaf)
    unit = gradient.double() / gradient.double().flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    expected = (images.double() + 0.7 * unit).clamp(0, 1)
    found = FGSM().perturb(model(), images, labels, TWO, 0.7, rng())
    assert torch.allclose(found.double(), expected, atol=1e-5)


def by_hand(
    net: nn.Module, image: Tensor, label: int, norm: Norm, epsilon: float, steps: int, alpha: float
) -> tuple[Tensor, bool]:
    """One image in float64: the first adversarial iterate, else the one of largest loss."""
    double = {key: value.double() for key, value in net.state_dict().items()}
    origin = image.double()
    x, best, highest = origin, origin, -np.inf
    for step in range(steps + 1):
        leaf = x.clone().requires_grad_()
        logits = torch.func.functional_call(net, double, leaf[None])[0]
        loss = logits.logsumexp(0) - logits[label]
        (gradient,) = torch.autograd.grad(loss, leaf)
        if int(logits.argmax()) != label:
            return x, True
        if loss.item() > highest:
            best, highest = x, loss.item()
        if step == steps:
            break
        if norm.name == "Linf":
            x = origin + (x + alpha * gradient.sign() - origin).clamp(-epsilon, epsilon)
        else:
            delta = x + alpha * gradient / gradient.norm() - origin
            x = origin + delta * min(1.0, epsilon / float(delta.norm()))
        x = x.clamp(0, 1)
    return best, False


@TWO_NORMS
@pytest.mark.parametrize("share", [0.25, 1.0])
def test_pgd_follows_a_plain_loop_in_float64(norm: Norm, share: float) -> None:
    images, labels = small_batch()
    epsilon, steps = EPSILONS[norm.name], 10
    attack = PGD(steps=steps, step=share, random_start=False)
    found = attack.perturb(AttackedModel(unsure_net()), images, labels, norm, epsilon, rng())
    hits = []
    for image, label, ours in zip(images, labels.tolist(), found, strict=True):
        expected, hit = by_hand(unsure_net(), image, label, norm, epsilon, steps, share * epsilon)
        hits.append(hit)
        assert torch.allclose(ours.double(), expected, atol=2e-5)
    assert 0 < sum(hits) < len(hits), "the scene must have both"
    assert broken(found, labels).tolist() == hits


@TWO_NORMS
def test_pgd_passes_where_torchattacks_passes(norm: Norm) -> None:
    images, labels = small_batch()
    epsilon, steps = EPSILONS[norm.name], 8
    paths: list[list[Tensor]] = [[], []]
    kind = torchattacks.PGD if norm is LINF else torchattacks.PGDL2
    watched = AttackedModel(unsure_net())
    with watched.on_forward(lambda x, _: paths[0].append(x)):
        peer = kind(watched, eps=epsilon, alpha=epsilon / 5, steps=steps, random_start=False)(images, labels)
    with watched.on_forward(lambda x, _: paths[1].append(x)):
        attack = PGD(steps=steps, step=0.2, random_start=False, stop=False)
        attack.perturb(watched, images, labels, norm, epsilon, rng())
    assert len(paths[0]) == steps
    assert len(paths[1]) == steps + 1
    for theirs, ours in zip([*paths[0], peer], paths[1], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    # Where neither breaks an image and the last iterate is the best one, both end with it.
    ended = PGD(steps=steps, step=0.2, random_start=False).perturb(
        watched, images, labels, norm, epsilon, rng()
    )
    losses = torch.stack([cross_entropy(watched.verdict(x), labels, None) for x in [*paths[0], peer]])
    same = ~broken(ended, labels) & ~broken(peer, labels) & (losses.argmax(0) == steps)
    assert same.sum() >= 3
    assert torch.allclose(ended[same], peer[same], atol=1e-5)


@pytest.mark.parametrize("norm", [LINF, TWO, ONE], ids=["Linf", "L2", "L1"])
@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_pgd_breaks_of_a_linear_network_what_can_be_broken(norm: Norm, loss: str) -> None:
    # 12 values, of which a step in L1 takes one: the one that the closed form takes.
    linear, images, labels = linear_scene(2, 2)
    exact = distances(linear.module, images, labels, norm).min(1)  # type: ignore[arg-type]
    epsilon = between(exact)
    assert epsilon < 0.3, "away from the edges of the range"
    attack = PGD(steps=15, loss=loss)  # type: ignore[arg-type]
    found = attack.perturb(linear, images, labels, norm, epsilon, rng())
    reached = linear.verdict(found).argmax(1) != labels
    assert reached.tolist() == (exact < epsilon).tolist()
    assert 0 < reached.sum() < len(images)


def test_l0_pgd_breaks_no_image_that_cannot_be_broken() -> None:
    linear, images, labels = linear_scene(2, 4)
    weights = linear.module.weights.detach().double().numpy()  # type: ignore[union-attr,operator]
    logits = linear.verdict(images).double().numpy()
    possible = []
    for i, y in enumerate(labels.tolist()):
        normal = (weights[1 - y] - weights[y]).reshape(3, -1)
        x = images[i].double().numpy().reshape(3, -1)
        gains = (np.abs(normal) * np.where(normal > 0, 1 - x, x)).sum(0)
        possible.append(np.sort(gains)[::-1][:1].sum() > logits[i, y] - logits[i, 1 - y])
    found = PGD(steps=40).perturb(linear, images, labels, L0(), 1.0, rng())
    reached = (linear.verdict(found).argmax(1) != labels).numpy()
    assert not (reached & ~np.array(possible)).any()
    assert reached.sum() >= 0.7 * sum(possible)
    assert sum(possible) > 3


@pytest.mark.parametrize("norm", list(NORMS.values()), ids=list(NORMS))
@pytest.mark.parametrize("loss", ["ce", "margin"])
def test_leaving_broken_images_alone_changes_no_other(norm: Norm, loss: str) -> None:
    images, labels = small_batch()
    attack = PGD(steps=8, random_start=False, loss=loss)  # type: ignore[arg-type]
    radius = EPSILONS[norm.name]
    together = broken(attack.perturb(model(), images, labels, norm, radius, rng()), labels)
    alone = [
        bool(broken(attack.perturb(model(), x[None], y[None], norm, radius, rng()), y[None]))
        for x, y in zip(images, labels, strict=True)
    ]
    assert together.tolist() == alone
    assert 0 < sum(alone) < len(alone)


@TWO_NORMS
def test_broken_images_cost_no_further_passes(norm: Norm) -> None:
    images, labels = small_batch()
    watched, sizes = model(), []
    with watched.on_forward(lambda x, _: sizes.append(len(x))):
        found = PGD(steps=10, random_start=False).perturb(
            watched, images, labels, norm, EPSILONS[norm.name], rng()
        )
    assert sizes == sorted(sizes, reverse=True)
    assert watched.queries == sum(sizes) < 11 * len(images)
    assert sizes[-1] == len(images) - int(broken(found, labels).sum())


@pytest.mark.parametrize("norm", list(NORMS.values()), ids=list(NORMS))
def test_climbing_on_ends_no_lower_and_breaks_the_same(norm: Norm) -> None:
    labels = small_batch()[1]
    attack = PGD(steps=10, random_start=False)
    stopped, done = climb(attack, norm)
    further, also = climb(replace(attack, stop=False), norm)
    assert torch.equal(done, also)
    assert torch.equal(broken(further, labels), done)
    losses = [cross_entropy(model().verdict(x), labels, None) for x in (stopped, further)]
    assert (losses[1] >= losses[0] - 1e-5).all()
    assert (losses[1] > losses[0] + 0.1).any()


def test_adversarial_iterate_is_better_than_one_of_larger_loss_that_is_not() -> None:
    class Scripted(nn.Module):
        """Class 0, then class 1 at a small loss, then class 0 at a larger one, then class 1 at one between."""

        script: ClassVar[list[list[float]]] = [[3.0, 0, 0], [1, 1.1, -9], [1, 0.9, 0.9], [1, 1.3, -9]]

        def __init__(self) -> None:
            super().__init__()
            self.passes = [0]

        def forward(self, x: Tensor) -> Tensor:
            logits = torch.tensor([self.script[self.passes[0]]], dtype=torch.float32)
            self.passes[0] += 1
            return logits + x.flatten(1)[:, :1] * torch.tensor([[0.0, 0.01, 0.01]])

    losses = [
        cross_entropy(torch.tensor([z], dtype=torch.float32), torch.tensor([0]), None).item()
        for z in Scripted.script
    ]
    assert losses[0] < losses[1] < losses[3] < losses[2]
    image, label = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    for stop, expected in [(True, 1), (False, 3)]:
        watched, passes = AttackedModel(Scripted()), []
        with watched.on_forward(lambda x, _, passes=passes: passes.append(x)):
            attack = PGD(steps=3, step=0.25, random_start=False, stop=stop)
            found = attack.perturb(watched, image, label, LINF, 0.3, rng())
        assert torch.equal(found, passes[expected])
        assert len(passes) == (2 if stop else 4)


@TWO_NORMS
def test_trace_is_what_was_passed(norm: Norm) -> None:
    images, labels = small_batch()
    trace = Trace()
    passes: list[tuple[Tensor, Tensor]] = []
    watched = model()
    with torch.enable_grad(), watched.on_forward(lambda *pair: passes.append(pair)):
        attack = PGD(steps=6, random_start=False, stop=False)
        _, done = attack.climb(AttackInputs(watched, images, labels, norm, EPSILONS[norm.name], rng()), trace)
    losses = torch.stack([cross_entropy(logits, labels, None) for _, logits in passes])
    wrong = torch.stack([logits.argmax(1) != labels for _, logits in passes])
    assert torch.allclose(torch.stack(trace.losses), losses)
    assert len(trace.losses) == 7
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(small_net()(leaf), labels, None).sum(), leaf)
    assert trace.gradients is not None
    assert trace.passed is not None
    assert trace.ended is not None
    assert torch.allclose(trace.gradients, gradient.flatten(1).abs().amax(1))
    assert torch.equal(trace.passed, wrong.any(0))
    assert torch.equal(trace.passed, done)
    assert torch.equal(trace.ended, wrong[-1])


def test_trace_knows_nothing_of_images_that_were_dropped() -> None:
    trace = Trace()
    _, done = climb(PGD(steps=6, random_start=False), LINF, trace)
    rows = torch.stack(trace.losses)
    assert rows[0].isfinite().all()
    assert torch.equal(rows[-1].isnan() | done, done)
    assert rows[-1].isnan().any()
    assert (rows.isnan().int().diff(dim=0) >= 0).all(), "what was dropped stays dropped"
    assert trace.passed is not None
    assert torch.equal(trace.passed, done)


def test_restarts_break_no_fewer_and_attack_only_what_is_left() -> None:
    images, labels = small_batch()
    once, thrice = model(), model()
    first = PGD(steps=4).perturb(once, images, labels, LINF, 0.07, rng())
    found = PGD(steps=4, restarts=3).perturb(thrice, images, labels, LINF, 0.07, rng())
    hit = broken(first, labels)
    assert 0 < hit.sum() < len(images)
    assert torch.equal(found[hit], first[hit])
    assert broken(found, labels)[hit].all()
    assert once.queries < thrice.queries <= once.queries + 2 * 5 * int((~hit).sum())


def test_random_start_is_a_start_inside_the_ball_and_not_the_image() -> None:
    images, labels = small_batch()
    firsts: list[Tensor] = []
    watched = model()
    with watched.on_forward(lambda x, _: firsts.append(x)):
        PGD(steps=1).perturb(watched, images, labels, LINF, 0.05, rng())
    assert (firsts[0] != images).flatten(1).any(1).all()
    assert (firsts[0] - images).abs().max() <= 0.05 + 1e-6


def test_targeted_pgd_reaches_the_target_that_the_closed_form_allows() -> None:
    linear, images, labels = linear_scene(5, 4)
    targets = (labels + 1) % 5
    # With two classes left in question the boundary is one plane; here only a bound: nearer ones cannot be missed.
    exact = distances(linear.module, images, labels, TWO)[np.arange(12), targets]  # type: ignore[arg-type]
    epsilon = float(np.median(exact))
    found = PGD(steps=60, loss="margin").perturb(linear, images, labels, TWO, epsilon, rng(), targets)
    reached = (linear.verdict(found).argmax(1) == targets).numpy()
    assert not reached[exact > epsilon * 1.001].any()
    assert reached.any()


def test_expectation_over_passes_counts_them() -> None:
    images, labels = small_batch()
    counted = model()
    PGD(steps=2, eot=3, random_start=False).perturb(counted, images, labels, LINF, 1e-4, rng())
    assert counted.gradients == 3 * 3 * len(images)


def test_sparse_by_hand() -> None:
    gradient = torch.tensor([[3.0, -4.0, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, -1.0, 1.0, 2.0]]).reshape(
        3, 1, 2, 2
    )
    step = sparse(gradient, 0.5).flatten(1)
    assert step[0].tolist() == [0.5, -0.5, 0, 0]
    assert step[1].tolist() == [0, 0, 0, 0]
    assert step[2].abs().sum() == pytest.approx(1)
    each = sparse(gradient, torch.tensor([0.0, 1.0, 1.0])).flatten(1)
    assert each[0].tolist() == [0, -1, 0, 0]
    assert each[2].tolist() == [0.25, -0.25, 0.25, 0.25]


@pytest.mark.parametrize("norm", [ONE, L0()], ids=["L1", "L0"])
def test_sparse_steps_do_not_waste_themselves_on_values_at_the_edge(norm: Norm) -> None:
    x = torch.full((1, 1, 4, 5), 0.5)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = 1.0, 0.0
    gradient = torch.full((1, 1, 4, 5), 0.1)
    gradient[0, 0, 0, 0], gradient[0, 0, 0, 1], gradient[0, 0, 2, 2] = 9.0, -9.0, 1.0
    move = PGD(steps=5).move(x, gradient, norm, 2.0)
    assert not move[0, 0, 0, :2].any()
    assert move.flatten().argmax() == 12


def test_margin_of_what_pgd_returns_is_never_above_the_clean_one() -> None:
    images, labels = small_batch()
    for norm in (LINF, TWO, ONE):
        assert norm.name in DUAL
        found = PGD(steps=5, random_start=False, loss="margin").perturb(
            model(), images, labels, norm, EPSILONS[norm.name] / 4, rng()
        )
        before, after = (margin(model().verdict(x), labels) for x in (images, found))
        assert (after <= before + 1e-5).all()
        assert (after < before - 1e-3).any()
