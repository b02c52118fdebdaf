"""The losses that attacks climb, against formulas in numpy, and their gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.attack_scenes import small_batch, small_net
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.attacks.losses import LOSSES, adversarial, ascent, at_once, cross_entropy, difference, dlr, pick
from probe.attacks.model import AttackedModel


def drawn(seed: int, classes: int, n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=g) * 3
    labels = torch.randint(classes, (n,), generator=g)
    targets = (labels + torch.randint(1, classes, (n,), generator=g)) % classes
    return logits, labels, targets


def dlr_by_hand(z: np.ndarray, y: int, t: int | None) -> float:
    down = np.sort(z)[::-1]
    if t is None:
        top = z[y] - max(z[k] for k in range(len(z)) if k != y)
        return float(-top / (down[0] - down[2]))
    return float(-(z[y] - z[t]) / (down[0] - (down[2] + down[3]) / 2))


@given(st.integers(0, 10**6), st.integers(4, 12))
def test_dlr_is_the_published_formula(seed: int, classes: int) -> None:
    logits, labels, targets = drawn(seed, classes)
    z = logits.double().numpy()
    plain = [dlr_by_hand(row, y, None) for row, y in zip(z, labels.tolist(), strict=True)]
    aimed = [dlr_by_hand(r, y, t) for r, y, t in zip(z, labels.tolist(), targets.tolist(), strict=True)]
    assert dlr(logits, labels, None).tolist() == pytest.approx(plain, rel=1e-3, abs=1e-5)
    assert dlr(logits, labels, targets).tolist() == pytest.approx(aimed, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("scale", [1e4, 1e-3])
def test_dlr_does_not_see_the_scale_of_the_logits_where_cross_entropy_starves(scale: float) -> None:
    logits, labels, targets = drawn(3, 10)
    for goal in (None, targets):
        assert torch.allclose(dlr(logits * scale, labels, goal), dlr(logits, labels, goal), rtol=1e-4)
    leaf = (logits * 1e4).requires_grad_()
    labels = logits.argmax(1)
    assert not torch.autograd.grad(cross_entropy(leaf, labels, None).sum(), leaf)[0].any()
    assert torch.autograd.grad(dlr(leaf, labels, None).sum(), leaf)[0].any(1).all()


def test_dlr_of_three_classes_takes_the_third_logit() -> None:
    logits = torch.tensor([[4.0, 1.0, 2.0]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert dlr(logits, zero, None).item() == pytest.approx(-(4 - 2) / (4 - 1))
    assert dlr(logits, zero, one).item() == pytest.approx(-(4 - 1) / (4 - 1))


def test_dlr_of_two_classes_is_the_plain_difference() -> None:
    logits = torch.tensor([[4.0, 1.0], [4.0, 1.0]])
    labels = torch.tensor([0, 1])
    assert dlr(logits, labels, None).tolist() == [-3.0, 3.0]
    assert dlr(logits, labels, 1 - labels).tolist() == [-3.0, 3.0]


def test_cross_entropy_is_torchs_and_turned_round_for_a_target() -> None:
    logits, labels, targets = drawn(1, 5)
    rows = torch.arange(6)
    log = logits.double().log_softmax(1)
    assert torch.allclose(cross_entropy(logits, labels, None).double(), -log[rows, labels], atol=1e-5)
    assert torch.allclose(cross_entropy(logits, labels, targets).double(), log[rows, targets], atol=1e-5)
    assert torch.equal(cross_entropy(logits, labels, None), F.cross_entropy(logits, labels, reduction="none"))


def test_difference_is_minus_the_margin() -> None:
    logits = torch.tensor([[3.0, 1.0, -2.0]])
    assert difference(logits, torch.tensor([0]), None).item() == -2
    assert difference(logits, torch.tensor([0]), torch.tensor([1])).item() == -2
    assert difference(logits, torch.tensor([0]), torch.tensor([2])).item() == -5


@pytest.mark.parametrize("name", list(LOSSES))
def test_losses_say_who_is_nearer_to_being_broken(name: str) -> None:
    far, near, over = (torch.tensor([[a, 1.0, 0.0, -1.0]]) for a in (4.0, 1.5, 0.5))
    label = torch.tensor([0])
    values = [LOSSES[name](logits, label, None).item() for logits in (far, near, over)]
    assert values == sorted(values)
    assert len(set(values)) == 3
    aimed = [LOSSES[name](logits, label, torch.tensor([1])).item() for logits in (far, near, over)]
    assert aimed == sorted(aimed)


def test_adversarial_by_hand() -> None:
    logits = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    labels = torch.tensor([0, 0])
    assert adversarial(logits, labels, None).tolist() == [False, True]
    assert adversarial(logits, labels, torch.tensor([2, 1])).tolist() == [False, True]


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradient_of_ascent_is_a_finite_difference(name: str) -> None:
    net = small_net()
    images, labels = (part[:3] for part in small_batch())
    _, losses, gradient = ascent(AttackedModel(net), images, labels, None, LOSSES[name])
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    double = {key: value.double() for key, value in net.state_dict().items()}

    def value(step: float) -> Tensor:
        x = images.double() + step * direction
        return LOSSES[name](torch.func.functional_call(net, double, x), labels, None)

    with torch.no_grad():
        assert torch.allclose(losses.double(), value(0.0), rtol=1e-4, atol=1e-5)
        slope = (value(1e-7) - value(-1e-7)) / 2e-7
    assert torch.allclose((gradient.double() * direction).flatten(1).sum(1), slope, rtol=1e-2, atol=1e-3)


def test_ascent_averages_over_passes() -> None:
    class Noisy(nn.Module):
        """Takes the k-th pixel into account at the k-th pass."""

        def __init__(self) -> None:
            super().__init__()
            self.passes = [0]

        def forward(self, x: Tensor) -> Tensor:
            value = x.flatten(1)[:, self.passes[0]]
            self.passes[0] += 1
            return torch.stack([value, 0 * value], 1)

    images, labels = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
    _, _, gradient = ascent(AttackedModel(Noisy()), images, labels, None, difference, repeats=4)
    assert gradient.flatten(1).tolist() == [[-0.25] * 4, [0.25] * 4]


def test_ascent_in_parts_is_ascent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = small_batch()
    model = AttackedModel(small_net())
    targets = (labels + 1) % 10
    whole = ascent(model, images, labels, targets, cross_entropy)
    monkeypatch.setattr("probe.attacks.losses._VALUES_AT_ONCE", 1)
    assert at_once(images) == 8 < len(images)
    for one, other in zip(whole, ascent(model, images, labels, targets, cross_entropy), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_network_that_cuts_the_graph_or_gives_nan_has_no_gradient() -> None:
    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().flatten(1)[:, :3]

    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3].sub(0.5).abs().sqrt()  # an infinite slope at one half

    for module in (Cut(), Steep()):
        images = torch.full((2, 1, 2, 2), 0.5)
        gradient = ascent(AttackedModel(module), images, torch.tensor([0, 1]), None, cross_entropy)[2]
        assert torch.equal(gradient, torch.zeros_like(images))


def test_pick() -> None:
    assert pick(None, torch.tensor([1])) is None
    picked = pick(torch.tensor([4, 5, 6]), torch.tensor([2, 0]))
    assert picked is not None
    assert picked.tolist() == [6, 4]
