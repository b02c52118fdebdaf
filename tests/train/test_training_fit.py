"""The training loop against the optimisers' published formulas, written out again in float64."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.core.errors import CannotRunError
from probe.core.seeds import scoped
from probe.core.state import fingerprint
from probe.train.loop.evaluation import count_correct, reestimate_batch_norm
from probe.train.loop.fit import DivergedError, Recipe, fit

PLAIN = Recipe(epochs=3, batch_size=4, lr=0.1, weight_decay=0.01, schedule="constant")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear() -> nn.Module:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(5), dtype=torch.float64))
    return module


def data(n: int = 10) -> tuple[Tensor, Tensor]:
    images = torch.rand(n, 3, 2, 2, generator=generator(1), dtype=torch.float64)
    return images, torch.randint(0, 3, (n,), generator=generator(2))


def orders(n: int, recipe: Recipe, seed: int) -> list[list[Tensor]]:
    """The batches of each epoch, as the generator draws them."""
    source = generator(seed)
    torch.randint(2**62, (1,), generator=source)  # what dropout is seeded with
    return [
        list(torch.split(torch.randperm(n, generator=source), recipe.batch_size))
        for _ in range(recipe.epochs)
    ]


def gradients(
    weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, smoothing: float
) -> tuple[Tensor, Tensor, float]:
    """Closed form for softmax regression with smoothed labels (Szegedy 2016)."""
    flat = x.flatten(1)
    logits = (flat @ weight.T + bias).float().double()
    target = F.one_hot(y, 3).double() * (1 - smoothing) + smoothing / 3
    log_p = logits - logits.logsumexp(1, keepdim=True)
    error = (log_p.exp() - target) / len(y)
    return error.T @ flat, error.sum(0), float(-(target * log_p).sum(1).mean())


def by_hand(
    recipe: Recipe, seed: int, rate: Callable[[int, int], float]
) -> tuple[Tensor, Tensor, list[float]]:
    """Train softmax regression by the formulas of Nesterov's SGD (Sutskever 2013) or AdamW."""
    images, labels = data()
    values = [parameter.detach().clone() for parameter in linear().parameters()]
    first = [torch.zeros_like(value) for value in values]
    second = [torch.zeros_like(value) for value in values]
    epochs = orders(len(images), recipe, seed)
    steps, step, losses = sum(map(len, epochs)), 0, []
    for epoch in epochs:
        total = 0.0
        for part in epoch:
            *grads, loss = gradients(values[0], values[1], images[part], labels[part], recipe.label_smoothing)
            total += loss * len(part)
            lr = recipe.lr * rate(step, steps)
            norm = math.sqrt(sum(float((g**2).sum()) for g in grads))  # type: ignore[union-attr]
            scale = min(1.0, recipe.clip_norm / (norm + 1e-6)) if recipe.clip_norm else 1.0
            for i, grad in enumerate(grads):
                g = grad * scale  # type: ignore[operator]
                if recipe.optimiser == "sgd":
                    g = g + recipe.weight_decay * values[i]
                    first[i] = g if step == 0 else 0.9 * first[i] + g
                    values[i] = values[i] - lr * (g + 0.9 * first[i])
                else:
                    values[i] = values[i] * (1 - lr * recipe.weight_decay)
                    first[i] = 0.9 * first[i] + 0.1 * g
                    second[i] = 0.999 * second[i] + 0.001 * g**2
                    m = first[i] / (1 - 0.9 ** (step + 1))
                    v = second[i] / (1 - 0.999 ** (step + 1))
                    values[i] = values[i] - lr * m / (v.sqrt() + 1e-8)
            step += 1
        losses.append(total / len(images))
    return values[0], values[1], losses


def constant(step: int, steps: int) -> float:
    return 1.0


def cosine(step: int, steps: int) -> float:
    return 0.5 * (1 + math.cos(math.pi * step / steps))


@pytest.mark.parametrize(
    ("recipe", "rate"),
    [
        (PLAIN, constant),
        (replace(PLAIN, label_smoothing=0.2), constant),
        (replace(PLAIN, clip_norm=0.05), constant),
        (replace(PLAIN, schedule="cosine"), cosine),
        (replace(PLAIN, optimiser="adamw", lr=0.01, weight_decay=0.1), constant),
    ],
)
def test_steps_by_hand(recipe: Recipe, rate: Callable[[int, int], float]) -> None:
    module = linear()
    images, labels = data()
    history = fit(module, images, labels, recipe, generator=generator(3))
    weight, bias, losses = by_hand(recipe, 3, rate)
    found = list(module.parameters())
    # Logits are compared as float32, so the loss sees their rounding.
    torch.testing.assert_close(found[0], weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1], bias, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([epoch.loss for epoch in history], losses, rtol=1e-5)


def test_one_cycle_rises_and_falls() -> None:
    """Steps of plain gradient size one show the learning rate itself."""

    class Offset(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.zeros(1, dtype=torch.float64))
            self.seen: list[float] = []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(float(self.value.detach()))
            return torch.cat([self.value.expand(len(x), 1), torch.zeros(len(x), 1)], 1)

    module = Offset()
    images, labels = torch.zeros(40, 1, 1, 1), torch.zeros(40, dtype=torch.int64)
    recipe = Recipe(epochs=5, batch_size=2, optimiser="adamw", lr=1e-4, weight_decay=0.0)
    fit(module, images, labels, recipe, generator=generator())
    # Adam's step for a constant sign of the gradient is the learning rate, nearly.
    rates = np.diff([*module.seen, float(module.value.detach())])
    assert len(rates) == 100
    assert 27 <= int(rates.argmax()) <= 33
    assert rates.max() == pytest.approx(1e-4, rel=0.05)
    assert rates[0] == pytest.approx(0.04 * 1e-4, rel=0.05)
    assert rates[-1] < 0.01 * rates.max()
    assert (np.diff(rates[:28]) > 0).all()
    assert (np.diff(rates[33:]) < 0).all()


def convnet(dropout: float = 0.0) -> nn.Module:
    with scoped(0, "convnet"):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 2),
        )


def stripes(n: int = 64) -> tuple[Tensor, Tensor]:
    """Horizontal against vertical stripes with noise."""
    labels = torch.arange(n) % 2
    wave = (torch.arange(12) % 2).float()
    images = torch.stack([wave.expand(12, 12) if label else wave[:, None].expand(12, 12) for label in labels])
    return (images + 0.3 * torch.randn(n, 12, 12, generator=generator(9)))[:, None], labels


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("bf16", [False, True])
def test_it_learns(optimiser: str, bf16: bool) -> None:
    module = convnet()
    images, labels = stripes()
    rate = 0.1 if optimiser == "sgd" else 0.02
    recipe = Recipe(epochs=8, batch_size=16, optimiser=optimiser, lr=rate, bf16=bf16)  # type: ignore[arg-type]
    history = fit(module, images, labels, recipe, generator=generator(), memory_format=torch.channels_last)
    assert history[-1].loss < history[0].loss
    assert history[-1].accuracy > 0.95
    test_images, test_labels = stripes(40)
    assert count_correct(module, test_images, test_labels, 7) >= 38


def test_reproducible_and_private() -> None:
    images, labels = stripes(20)
    recipe = Recipe(epochs=2, batch_size=5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    prints = []
    for seed in (0, 0, 1):
        module = convnet(dropout=0.5)
        fit(module, images, labels, recipe, generator=generator(seed))
        assert torch.equal(torch.get_rng_state(), states[0])
        prints.append(fingerprint(module))
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]
    assert prints[0] == prints[1] != prints[2]


def test_flags_come_back_and_gradients_go() -> None:
    module = convnet().eval()
    module[0].requires_grad_(False)  # type: ignore[index]
    frozen = module[0].weight.clone()  # type: ignore[index]
    fit(module, *stripes(20), Recipe(epochs=1, batch_size=5), generator=generator())
    assert not any(sub.training for sub in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert torch.equal(module[0].weight, frozen)  # type: ignore[index]


def test_flags_come_back_after_an_error() -> None:
    module = convnet().eval()

    def fail(*_: object) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(module, *stripes(20), Recipe(epochs=1, batch_size=5), generator=generator(), perturb=fail)
    assert not any(sub.training for sub in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_perturb_and_augment_see_every_batch() -> None:
    module = convnet()
    images, labels = stripes(20)
    seen: list[int] = []

    def augment(x: Tensor, source: torch.Generator) -> Tensor:
        return x + 100 + 0 * torch.rand(1, generator=source)

    def perturb(given: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert given is module
        assert float(x.min()) > 50
        seen.append(len(y))
        return x - 100

    fit(
        module,
        images,
        labels,
        Recipe(epochs=2, batch_size=6),
        generator=generator(),
        augment=augment,
        perturb=perturb,
    )
    assert seen == [6, 6, 6, 2] * 2


def test_progress_counts_images_and_a_last_single_image_is_left_out() -> None:
    done: list[float] = []
    images, labels = stripes(21)
    fit(convnet(), images, labels, Recipe(epochs=2, batch_size=5), generator=generator(), advance=done.append)
    assert done == [5, 5, 5, 5] * 2


def test_a_loss_that_is_no_number() -> None:
    images, labels = stripes(20)
    images[3] = float("nan")
    module = convnet()
    with pytest.raises(DivergedError, match=r"nan in epoch 1 of 2: lower the learning rate \(it is 0.1\)"):
        fit(module, images, labels, Recipe(epochs=2, batch_size=20), generator=generator())
    assert issubclass(DivergedError, CannotRunError)
    diverging = Recipe(epochs=50, batch_size=5, lr=1e20, schedule="constant")
    with pytest.raises(DivergedError):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), *stripes(20), diverging, generator=generator())


def test_nothing_to_train() -> None:
    images, labels = stripes(8)
    with pytest.raises(ValueError, match="requires a gradient"):
        fit(convnet().requires_grad_(False), images, labels, PLAIN, generator=generator())
    with pytest.raises(ValueError, match="8 images with 7 labels"):
        fit(convnet(), images, labels[:7], PLAIN, generator=generator())
    with pytest.raises(ValueError, match="1 images"):
        fit(convnet(), images[:1], labels[:1], PLAIN, generator=generator())


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 1}, {"lr": 0.0}, {"lr": float("nan")}])
def test_recipes_that_have_no_meaning(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a recipe needs"):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_batch_norm_statistics_are_those_of_the_data() -> None:
    module = convnet().eval()
    images, _ = stripes(60)
    with torch.no_grad():
        outputs = module[0](images)  # type: ignore[index]
    before = module[1].momentum  # type: ignore[index]
    reestimate_batch_norm(module, torch.split(images, 20))
    means = torch.stack([part.mean((0, 2, 3)) for part in torch.split(outputs, 20)])
    variances = torch.stack([part.var((0, 2, 3)) for part in torch.split(outputs, 20)])
    torch.testing.assert_close(module[1].running_mean, means.mean(0))  # type: ignore[index]
    torch.testing.assert_close(module[1].running_var, variances.mean(0))  # type: ignore[index]
    assert module[1].momentum == before  # type: ignore[index]
    assert not any(sub.training for sub in module.modules())


def test_networks_without_batch_norm_are_left_alone() -> None:
    module = linear()
    before = fingerprint(module)
    reestimate_batch_norm(module, [torch.zeros(2, 3, 2, 2, dtype=torch.float64)])
    assert fingerprint(module) == before
