"""Auto-PGD against its published checkpoints, torchattacks and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchattacks
from helpers.attack_scenes import (
    LINF,
    ONE,
    TWO,
    between,
    distances,
    linear_scene,
    rng,
    small_batch,
    small_net,
)
from torch import Tensor

from probe.attacks.families.apgd import (
    ApgdCE,
    ApgdDLR,
    ApgdT,
    _State,
    boundary_start,
    likeliest_others,
    windows,
)
from probe.attacks.families.gradient import PGD
from probe.attacks.judge import margin
from probe.attacks.model import AttackedModel
from probe.attacks.norms import NORMS, Norm
from probe.core.seeds import scoped


def model() -> AttackedModel:
    return AttackedModel(small_net())


def broken(images: Tensor, labels: Tensor) -> Tensor:
    return model().verdict(images).argmax(1) != labels


def published(steps: int) -> list[int]:
    """Checkpoints ⌈p_j N⌉ with p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)."""
    points = [0.0, 0.22]
    while points[-1] <= 1:
        points.append(points[-1] + max(points[-1] - points[-2] - 0.03, 0.06))
    return [math.ceil(round(p * steps, 9)) for p in points[1:] if p * steps < steps]


@pytest.mark.parametrize("steps", [100, 200, 1000])
def test_checkpoints_are_the_published_ones(steps: int) -> None:
    found = windows(steps, l1=False)
    places = [index for index, window in enumerate(found) if window]
    assert places == published(steps)
    assert [found[place] for place in places] == np.diff([0, *places]).tolist()
    assert len(found) == steps


def test_checkpoints_for_a_hundred_steps_in_full() -> None:
    assert [i for i, window in enumerate(windows(100, False)) if window] == [22, 41, 57, 70, 80, 87, 93, 99]


def test_l1_checkpoints_are_every_twenty_fifth_of_the_steps() -> None:
    assert [i for i, window in enumerate(windows(100, True)) if window] == list(range(4, 100, 4))


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("l1", [False, True])
def test_few_steps_have_windows_too(steps: int, l1: bool) -> None:
    found = windows(steps, l1)
    assert len(found) == steps
    assert sum(found) <= steps
    if steps > 2:
        assert any(found)


@pytest.mark.parametrize(("norm", "epsilon"), [(LINF, 0.06), (LINF, 0.1), (TWO, 0.5), (TWO, 0.8)])
@pytest.mark.parametrize("kind", [ApgdCE, ApgdDLR])
def test_leaves_no_more_images_than_torchattacks(
    norm: Norm, epsilon: float, kind: type[ApgdCE] | type[ApgdDLR]
) -> None:
    images, labels = small_batch()
    left = []
    for seed in range(3):
        peer = torchattacks.APGD(model(), norm=norm.name, eps=epsilon, steps=20, seed=seed, loss=kind.loss)
        with scoped(seed, "peer"):
            theirs = peer(images, labels)
        ours = kind(steps=20).perturb(model(), images, labels, norm, epsilon, rng(seed))
        assert (norm.size(ours - images) <= epsilon + 1e-5).all()
        left.append([int((~broken(x, labels)).sum()) for x in (ours, theirs)])
    for ours, theirs in left:
        assert ours <= theirs + 1
    assert 0 < sum(theirs for _, theirs in left) < 3 * len(images)
    assert sum(ours for ours, _ in left) <= sum(theirs for _, theirs in left) + 1


@pytest.mark.parametrize("epsilon", [1.5, 2.5])
def test_l1_leaves_no_more_images_than_pgd_and_stays_inside(epsilon: float) -> None:
    images, labels = small_batch()
    ours = ApgdCE(steps=50).perturb(model(), images, labels, ONE, epsilon, rng())
    pgd = PGD(steps=50).perturb(model(), images, labels, ONE, epsilon, rng())
    sizes = np.abs((ours - images).double().numpy()).reshape(len(images), -1).sum(1)
    assert (sizes <= epsilon * (1 + 1e-5)).all()
    assert ours.min() >= 0
    assert ours.max() <= 1
    assert 0 < broken(pgd, labels).sum() < len(images)
    assert broken(ours, labels).sum() >= broken(pgd, labels).sum()


@pytest.mark.parametrize("norm", [LINF, TWO, ONE], ids=["Linf", "L2", "L1"])
@pytest.mark.parametrize("kind", [ApgdCE, ApgdDLR, ApgdT])
def test_breaks_of_a_linear_network_what_can_be_broken(norm: Norm, kind: type[ApgdCE]) -> None:
    linear, images, labels = linear_scene(2, 2)
    exact = distances(linear.module, images, labels, norm).min(1)  # type: ignore[arg-type]
    epsilon = between(exact)
    found = kind(steps=40).perturb(linear, images, labels, norm, epsilon, rng())
    reached = linear.verdict(found).argmax(1) != labels
    assert reached.tolist() == (exact < epsilon).tolist()
    assert 0 < reached.sum() < len(images)


@pytest.mark.parametrize("norm", [LINF, TWO], ids=["Linf", "L2"])
def test_targets_in_turn_find_the_nearest_of_many_classes(norm: Norm) -> None:
    linear, images, labels = linear_scene(5, 4)
    exact = distances(linear.module, images, labels, norm).min(1)  # type: ignore[arg-type]
    epsilon = between(exact)
    found = ApgdT(steps=40).perturb(linear, images, labels, norm, epsilon, rng())
    reached = linear.verdict(found).argmax(1) != labels
    assert reached.tolist() == (exact < epsilon).tolist()


def test_a_target_is_the_only_one_and_is_reached() -> None:
    linear, images, labels = linear_scene(5, 4)
    targets = (labels + 2) % 5
    for kind in (ApgdCE, ApgdDLR, ApgdT):
        found = kind(steps=30).perturb(linear, images, labels, TWO, 1.0, rng(), targets)
        assert torch.equal(linear.verdict(found).argmax(1), targets)


def test_targets_in_turn_stop_at_any_wrong_class() -> None:
    """Of what is passed on the way to a target, the first that has left the label is returned (as in AutoAttack)."""
    images, labels = small_batch()
    elsewhere = 0
    for image, y in zip(images[:, None], labels[:, None], strict=True):
        watched, passes = model(), []
        with watched.on_forward(lambda x, z, passes=passes: passes.append((x, int(z.argmax())))):
            found = ApgdT(steps=12).perturb(watched, image, y, LINF, 0.4, rng())
        target = int(likeliest_others(model(), image, y, 1))
        away = [(x, answer) for x, answer in passes if answer != int(y)]
        assert len(away) == 1
        assert passes[-1][1] != int(y)
        assert torch.equal(away[0][0], found)
        elsewhere += away[0][1] != target
    assert elsewhere > 0, "none went to a third class"


def test_a_given_target_is_still_all_that_counts() -> None:
    images, labels = small_batch()
    targets = (labels + 5) % 10
    found = ApgdT(steps=12).perturb(model(), images, labels, LINF, 0.4, rng(), targets)
    same = ApgdDLR(steps=12).perturb(model(), images, labels, LINF, 0.4, rng(), targets)
    assert torch.equal(found, same)
    assert (model().verdict(found).argmax(1) == targets).float().mean() > 0.5


def test_broken_images_are_left_alone() -> None:
    images, labels = small_batch()
    watched, sizes = model(), []
    with watched.on_forward(lambda x, _: sizes.append(len(x))):
        found = ApgdCE(steps=20).perturb(watched, images, labels, LINF, 0.08, rng())
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < sizes[-1] < len(images)
    assert sizes[-1] <= len(images) - int(broken(found, labels).sum()) + (sizes[-2] - sizes[-1] or 1)


@pytest.mark.parametrize(("norm", "epsilon"), [(LINF, 0.03), (TWO, 0.2), (ONE, 1.0)])
def test_unbroken_image_ends_at_its_largest_loss(norm: Norm, epsilon: float) -> None:
    images, labels = small_batch()
    kept = 0
    for image, y in zip(images[:, None], labels[:, None], strict=True):
        watched, passes, losses = model(), [], []
        with watched.on_forward(lambda x, z, passes=passes: passes.append((x, z))):
            found = ApgdDLR(steps=15).perturb(watched, image, y, norm, epsilon, rng())
        for _, z in passes:
            down = z[0].sort(descending=True).values
            losses.append(float(-margin(z, y)) / float(down[0] - down[2]))
        if not broken(found, y):
            kept += 1
            assert torch.equal(passes[int(np.argmax(losses))][0], found)
            assert len(passes) == 16
    assert kept > 5


def test_rises_are_counted_and_the_best_is_kept() -> None:
    x = torch.zeros(2, 1, 1, 1)
    state = _State.at(x, 0.5)
    rows = [[1.0, 5.0], [2.0, 4.0], [1.5, 4.5], [3.0, 4.2]]
    for step, losses in enumerate(rows):
        state.x = torch.full_like(x, step)
        state.take(torch.tensor(losses), torch.full_like(x, -step))
    assert state.rises.tolist() == [2, 1], "the first pass is no rise"
    assert state.best_loss.tolist() == [3.0, 5.0]
    assert state.best_x.flatten().tolist() == [3, 0]
    assert state.best_gradient.flatten().tolist() == [-3, 0]
    state.return_to_best(torch.tensor([False, True]))
    assert state.x.flatten().tolist() == [3, 0]


def test_step_size_is_halved_where_the_climb_stalls() -> None:
    """At a maximum inside the ball a fixed step of 2 epsilon would jump to and fro for ever."""

    class Hill(torch.nn.Module):
        """The wrong logit is highest in the middle, at 0.52 everywhere, and never wins."""

        def forward(self, x: Tensor) -> Tensor:
            height = -((x - 0.52).flatten(1).square().sum(1))
            return torch.stack([torch.ones(len(x)), height], 1)

    images, labels = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, dtype=torch.long)
    found = ApgdCE(steps=100).perturb(AttackedModel(Hill()), images, labels, TWO, 0.4, rng())
    assert (found - 0.52).abs().max() < 0.01
    rough = PGD(steps=100, step=2.0).perturb(AttackedModel(Hill()), images, labels, TWO, 0.4, rng())
    assert (rough - 0.52).flatten(1).norm(dim=1).min() > 0.04


@pytest.mark.parametrize("norm", list(NORMS.values()), ids=list(NORMS))
def test_boundary_start_uses_the_whole_radius(norm: Norm) -> None:
    images = torch.full((5, 3, 4, 4), 0.5)
    epsilon = {"Linf": 0.2, "L2": 0.7, "L1": 2.0, "L0": 4.0}[norm.name]
    sizes = norm.size(boundary_start(images, norm, epsilon, rng()) - images)
    assert sizes.tolist() == pytest.approx([epsilon] * 5, rel=1e-4)


def test_likeliest_others_by_hand() -> None:
    class Fixed(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[1.0, 5.0, 3.0, 4.0]]).expand(len(x), 4)

    images = torch.rand(2, 1, 2, 2)
    found = likeliest_others(AttackedModel(Fixed()), images, torch.tensor([1, 0]), 9)
    assert found.tolist() == [[3, 2, 0], [1, 3, 2]]
    assert likeliest_others(AttackedModel(Fixed()), images, torch.tensor([1, 0]), 1).tolist() == [[3], [1]]
