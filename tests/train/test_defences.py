"""Defences by training: TRADES, one fast step with a look for catastrophic overfitting, and noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.attacks.norms import L2, Linf
from probe.core.errors import UsageError
from probe.train import adversarial as module
from probe.train.adversarial import (
    Adversary,
    Passes,
    Perturbing,
    PerturbingTrades,
    adversary,
    divergence,
    worst_nearby,
)
from probe.train.loop.fit import Recipe, fit
from probe.train.setup import RecipeOptions
from probe.train.trainer import TrainOptions, train


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(classes: int = 2) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, classes))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(4)))
    return net


def batch(n: int = 8, classes: int = 2) -> tuple[Tensor, Tensor]:
    return 0.3 + 0.4 * torch.rand(n, 3, 2, 2, generator=generator(1)), torch.arange(n) % classes


def test_the_divergence_is_that_of_distributions() -> None:
    clean, moved = (torch.randn(5, 7, generator=generator(seed)) for seed in (2, 3))
    by_hand = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=clean), torch.distributions.Categorical(logits=moved)
    ).sum()
    assert float(divergence(clean, moved)) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(divergence(clean, clean)) == pytest.approx(0, abs=1e-6)


def test_trades_looks_for_the_answer_farthest_from_the_clean_one() -> None:
    """Of two linear classes the divergence is largest in one of two corners of the box."""
    net, (images, labels) = linear(), batch()
    against = Adversary(Linf(), 0.1, 10, method="trades")
    moved = worst_nearby(net, images, labels, against, generator())
    weight = net[1].weight
    corner = 0.1 * (weight[1] - weight[0]).sign().reshape(1, 3, 2, 2)
    with torch.no_grad():
        for image, found in zip(images, moved, strict=True):
            clean = net(image[None])
            best = max(float(divergence(clean, net(image[None] + sign * corner))) for sign in (-1, 1))
            reached = float(divergence(clean, net(found[None])))
            # From a random start it may climb to the lesser of the two corners.
            assert reached == pytest.approx(best, rel=1e-3) or reached == pytest.approx(
                min(float(divergence(clean, net(image[None] + sign * corner))) for sign in (-1, 1)), rel=1e-3
            )


def test_a_step_of_trades_is_that_of_the_papers_loss() -> None:
    images, labels = batch(6, 3)
    net, reference = linear(3), linear(3)
    against = Adversary(L2(), 0.2, 3, warm_up=0.0, method="trades", beta=2.5)
    fit(
        net,
        images,
        labels,
        Recipe(epochs=1, batch_size=6, lr=0.1, weight_decay=0.0, schedule="constant"),
        generator=generator(5),
        perturb=PerturbingTrades(against, 1, generator(6), Passes()),
    )
    draws = generator(5)
    torch.randint(2**62, (1,), generator=draws)
    order = torch.randperm(6, generator=draws)
    x, y = images[order], labels[order]
    moved = worst_nearby(reference, x, y, against, generator(6))
    clean = reference(x)
    loss = F.cross_entropy(clean, y) + 2.5 * F.kl_div(
        reference(moved).log_softmax(1), clean.softmax(1), reduction="batchmean"
    )
    gradients = torch.autograd.grad(loss, list(reference.parameters()))
    for ours, before, gradient in zip(net.parameters(), reference.parameters(), gradients, strict=True):
        # The first step of Nesterov's momentum of 0.9 is 1.9 times the gradient.
        assert torch.allclose(ours, before - 0.1 * 1.9 * gradient, atol=1e-5)


def test_a_fast_step_is_one_of_five_quarters_of_the_radius() -> None:
    net, (images, labels) = linear(), batch()
    against = Adversary(Linf(), 0.08, 1, method="fast")
    moved = worst_nearby(net, images, labels, against, generator(7))
    x = Linf().start(images, 0.08, generator(7)).requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(net(x), labels, reduction="sum"), x)
    expected = torch.minimum(
        torch.maximum(x.detach() + 0.1 * gradient.sign(), images - 0.08), images + 0.08
    ).clamp(0, 1)
    assert torch.allclose(moved, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("single", "several", "overfitted"),
    [(150, 10, True), (150, 74, True), (150, 75, False), (150, 140, False), (39, 0, False), (40, 0, True)],
)
def test_overfitting_is_half_the_accuracy_of_the_single_step(
    monkeypatch: pytest.MonkeyPatch, single: int, several: int, overfitted: bool
) -> None:
    def counted(net: nn.Module, images: Tensor, labels: Tensor, against: Adversary, *_: object) -> int:
        return single if against.method == "fast" else several

    monkeypatch.setattr(module, "count_robust", counted)
    perturb = Perturbing(Adversary(steps=1, warm_up=0.0, method="fast"), 10, generator(), Passes())
    for _ in range(3):
        perturb.check(linear(), torch.zeros(200, 3, 2, 2), torch.zeros(200, dtype=torch.long))
    assert perturb.overfitted == (1 if overfitted else None)
    assert perturb.adversary.method == ("pgd" if overfitted else "fast")
    assert perturb.adversary.steps == (7 if overfitted else 1)
    again = Perturbing(Adversary(steps=1, warm_up=0.0, method="fast"), 10, generator(), Passes())
    again.restore(perturb.state())
    assert (again.overfitted, again.adversary) == (perturb.overfitted, perturb.adversary)


class Seeing(nn.Module):
    """A classifier that notes what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(48, 2)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        self.seen.append(x.detach().clone())
        return self.last(x.flatten(1))


def test_noise_has_the_standard_deviation_asked_for_and_is_drawn_anew() -> None:
    images, labels = torch.full((64, 3, 4, 4), 0.5), torch.arange(64) % 2
    net = Seeing()
    fit(net, images, labels, Recipe(epochs=2, batch_size=64, noise=0.25), generator=generator())
    first, second = net.seen
    assert float((first - 0.5).std()) == pytest.approx(0.25, rel=0.05)
    assert float((first - 0.5).mean()) == pytest.approx(0, abs=0.02)
    assert not torch.equal(first, second)
    with pytest.raises(ValueError, match="noise"):
        Recipe(noise=-1.0)


def test_words_of_the_methods() -> None:
    assert adversary(None, None, None, "digits", "trades").steps == 10
    assert adversary(None, None, None, "digits", "trades", 3.0).beta == 3
    assert adversary(None, None, None, "digits", "fast").step == pytest.approx(0.25)
    for words, says in (
        (("freely", None), "freely"),
        (("fast", 3.0), "--beta is for"),
        (("trades", 0.0), "above 0"),
    ):
        with pytest.raises(UsageError, match=says):
            adversary(None, None, None, "digits", *words)
    with pytest.raises(UsageError, match="one step"):
        adversary(None, None, 4, "digits", "fast")


def test_noise_and_an_adversary_exclude_each_other(tmp_path: Path) -> None:
    recipe = RecipeOptions(epochs=1, noise=0.1)
    with pytest.raises(UsageError, match="exclude each other"):
        train(
            "zoo:lenet",
            "digits",
            TrainOptions(recipe=recipe, adversarial="pgd", out=tmp_path / "a.safetensors"),
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["trades", "fast"])
def test_defences_gain_robustness(tmp_path: Path, method: str) -> None:
    """A network trained plainly keeps next to none of its images at Linf 0.2."""
    options = TrainOptions(adversarial=method, out=tmp_path / "a.safetensors", device="cpu")
    trained = train("zoo:lenet", "digits", options)
    robust = trained.record.robust
    assert robust is not None
    assert robust.correct >= 0.25 * robust.n
    assert trained.record.score.correct >= 0.85 * trained.record.score.n
