"""The gradients that a watch records, and the layers at which planted faults are found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from probe.core.seeds import scoped
from probe.core.state import fingerprint
from probe.train.loop.evaluation import count_correct
from probe.train.loop.fit import DivergedError, Recipe, fit
from probe.train.loop.watch import (
    Epoch,
    Fault,
    StepTrial,
    Watch,
    all_finite,
    dead_units,
    diagnose,
    is_dead,
    random_states,
)

PLAIN = Recipe(epochs=2, batch_size=4, lr=0.1, schedule="constant")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def data(n: int = 16) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 6, 6, generator=generator(1)), torch.arange(n) % 2


class Break(nn.Module):
    """Multiply by a value forward, or its gradient by a value backward, from one step on."""

    def __init__(self, forward: float = 1.0, backward: float = 1.0, start: int = 0) -> None:
        super().__init__()
        self.values, self.start, self.calls = (forward, backward), start, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls <= self.start:
            return x
        y = x * self.values[0]
        if y.requires_grad and self.values[1] != 1.0:
            y = Backward.apply(y, self.values[1])
        return y


class Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, value: float) -> Tensor:
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.value, None


class Branches(nn.Module):
    """Two branches that read the same tensor, and an in-place activation."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.left, self.right = left, right
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        x = self.left(x) + self.right(x)
        return self.head(self.drop(x.mean((2, 3))))  # type: ignore[no-any-return]


def network(left: nn.Module | None = None, right: nn.Module | None = None) -> Branches:
    with scoped(0, "network"):
        return Branches(left or nn.Conv2d(4, 4, 1), right or nn.Conv2d(4, 4, 1))


def fault(module: nn.Module, recipe: Recipe = PLAIN, images: Tensor | None = None, every: int = 1) -> Fault:
    given, labels = data()
    with pytest.raises(DivergedError) as caught:
        fit(
            module,
            given if images is None else images,
            labels,
            recipe,
            generator=generator(),
            watch=Watch(module, every),
        )
    assert caught.value.fault is not None
    assert caught.value.fault.advice in str(caught.value)
    return caught.value.fault


def test_norms_by_hand() -> None:
    """Softmax regression: the gradient of the weights is errorᵀ x / n (Bishop 2006, eq. 4.109)."""
    images, labels = data(8)
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double()
    weight, bias = (p.detach().clone() for p in module.parameters())
    recipe = Recipe(epochs=3, batch_size=8, lr=1e-9, schedule="constant", clip_norm=1e-3)
    watch = Watch(module, 2)
    fit(module, images.double(), labels, recipe, generator=generator(), watch=watch)
    flat = images.double().flatten(1)
    p = torch.softmax(flat @ weight.T + bias, 1)
    norm = float(((p - F.one_hot(labels, 2)).T @ flat / 8).norm())
    loss = float(-p[torch.arange(8), labels].log().mean())
    assert watch.layers == ("1",)
    assert [step for step, _ in watch.norms] == [0, 2]
    assert watch.norms[0][1] == pytest.approx((norm,), rel=1e-5)
    assert norm > 1e-2  # the clipped gradient would be 1e-3
    assert watch.losses[0][1] == pytest.approx(loss, rel=1e-5)
    assert [step for step, _ in watch.losses] == [0, 2]


def test_layers_in_module_order_and_unused_ones_give_zero() -> None:
    module = network()
    module.unused = nn.Linear(3, 3)
    watch = Watch(module, 3)
    fit(module, *data(), PLAIN, generator=generator(), watch=watch)
    assert watch.layers == ("stem", "left", "right", "head", "unused")
    assert [step for step, _ in watch.norms] == [0, 3, 6]
    for _, norms in watch.norms:
        assert norms[-1] == 0.0
        assert min(norms[:-1]) > 0
    with pytest.raises(ValueError, match="every 0 steps"):
        Watch(module, 0)


def test_norms_of_huge_gradients_are_finite() -> None:
    module = nn.Linear(4, 4)
    module.weight.grad = torch.full((4, 4), 1e30)
    watch = Watch(module, 1)
    watch.record(0, 1.0)
    assert watch.norms[0][1] == pytest.approx((4e30,), rel=1e-6)
    assert all_finite(list(module.parameters()))
    module.weight.grad[0, 0] = math.inf
    assert not all_finite(list(module.parameters()))
    assert all_finite([])
    watch.record(1, 1.0)
    assert watch.norms[1][1] == (math.inf,)
    assert watch.last_norms() == (("", watch.norms[0][1][0]),)


@pytest.mark.parametrize("bf16", [False, True])
def test_training_is_the_same_with_and_without(bf16: bool) -> None:
    recipe = replace(PLAIN, epochs=3, bf16=bf16, clip_norm=0.5)
    images, labels = data()

    def noisy(x: Tensor, source: torch.Generator) -> Tensor:
        return x + torch.rand(x.shape, generator=source)

    def evaluating(module: nn.Module) -> Callable[[], None]:
        def evaluate() -> None:
            torch.rand(7)
            curve.append(count_correct(module, images, labels))

        return evaluate

    curve: list[int] = []

    module_a, module_b = network(), network()
    plain = fit(module_a, images, labels, recipe, generator=generator(), augment=noisy)
    watched = fit(
        module_b,
        images,
        labels,
        recipe,
        generator=generator(),
        augment=noisy,
        watch=Watch(module_b, 2),
        evaluate=evaluating(module_b),
    )
    assert fingerprint(module_a) == fingerprint(module_b)
    assert plain == watched
    assert len(curve) == 3


def test_a_bad_input() -> None:
    images, _ = data()
    images[:, :, 2, 2] = math.inf
    found = fault(network(), images=images)
    assert (found.kind, found.layer, found.value, found.step, found.epoch) == ("input", "", "inf", 0, 0)
    assert found.last_norms == ()
    assert "normalise the input" in found.advice
    assert math.isnan(found.loss)


def test_a_bad_weight() -> None:
    module = network()
    with torch.no_grad():
        module.right.bias[1] = math.nan  # type: ignore[operator]
        module.head.weight[0, 0] = math.inf
    found = fault(module)
    assert (found.kind, found.layer, found.value) == ("weight", "right", "nan")
    assert str(found) == "the weight of right is nan at step 1"


def test_a_bad_output_first_in_execution_order() -> None:
    module = network(nn.Sequential(nn.Identity(), Break(math.inf, start=5)), Break(math.nan, start=5))
    found = fault(module)
    # ReLU leaves zeros, and 0 · ∞ is not a number.
    assert (found.kind, found.layer, found.value) == ("output", "left.1", "nan")
    assert (found.step, found.epoch, found.lr) == (5, 1, 0.1)
    assert "0.1 to 0.01" in found.advice
    assert [name for name, _ in found.last_norms] == ["stem", "head"]
    assert all(0 < norm < math.inf for _, norm in found.last_norms)


def test_a_bad_output_outside_every_leaf() -> None:
    class Log(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(36, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.flatten(1)) / 0.0  # type: ignore[no-any-return]

    found = fault(Log())
    assert (found.kind, found.layer, found.value) == ("output", "", "inf")


def test_a_bad_loss() -> None:
    """Labels that are all ignored leave a mean over nothing."""
    module = network()
    images, labels = data()
    with pytest.raises(DivergedError, match="Check the labels") as caught:
        fit(module, images, labels * 0 - 100, PLAIN, generator=generator(), watch=Watch(module, 1))
    found = caught.value.fault
    assert found is not None
    assert (found.kind, found.layer, found.value) == ("loss", "", "nan")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("graph", [False, True])
def test_a_bad_gradient(side: str, graph: bool) -> None:
    """Both branches read the same tensor; the one with the bad backward pass is named."""
    broken = Break(backward=math.inf, start=0 if graph else 3)
    module: nn.Module = network(**{side: broken})
    if graph:

        class Tracer(fx.Tracer):
            def is_leaf_module(self, m: nn.Module, name: str) -> bool:
                return isinstance(m, Break) or super().is_leaf_module(m, name)

        module = fx.GraphModule(module, Tracer().trace(module))
    found = fault(module)
    assert (found.kind, found.layer) == ("gradient", side)
    assert found.step == (0 if graph else 3)
    assert math.isfinite(found.loss)
    assert "Clip the gradients" in found.advice


def test_the_first_in_backward_order() -> None:
    module = network(nn.Sequential(Break(backward=math.inf), nn.Conv2d(4, 4, 1), Break(backward=math.inf)))
    found = fault(module)
    assert (found.kind, found.layer) == ("gradient", "left.2")


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_learning_rate_that_is_far_too_high(optimiser: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    recipe = Recipe(epochs=60, batch_size=4, optimiser=optimiser, lr=1e8, schedule="constant")  # type: ignore[arg-type]
    found = fault(module, recipe)
    assert found.kind in {"weight", "output", "loss", "gradient"}
    assert found.lr == 1e8
    assert "1e+08" in found.advice or found.kind == "loss"


def test_names_of_a_watched_part() -> None:
    inner = network(Break(math.nan))
    module = nn.Sequential(nn.Identity(), inner)
    with pytest.raises(DivergedError) as caught:
        fit(module, *data(), PLAIN, generator=generator(), watch=Watch(inner, 1))
    assert caught.value.fault is not None
    assert caught.value.fault.layer == "left"


def trial_of(module: nn.Module) -> StepTrial:
    images, labels = data()
    states = random_states(images.device)
    return StepTrial(
        module,
        images,
        lambda: module(images),
        lambda logits: F.cross_entropy(logits, labels),
        states,
        step=0,
        epoch=0,
        lr=0.1,
        peak=0.1,
    )


@pytest.mark.parametrize(
    ("broken", "kind"), [(Break(math.nan), "output"), (Break(backward=math.nan), "gradient")]
)
def test_a_diagnosis_leaves_no_trace(broken: Break, kind: str) -> None:
    module = network(broken)
    trial = trial_of(module)
    before, random = fingerprint(module), torch.get_rng_state()
    buffers = [buffer.clone() for buffer in module.buffers()]
    calls = broken.calls
    assert diagnose(Watch(module, 1), trial, 1.0).kind == kind
    assert broken.calls > calls
    assert fingerprint(module) == before
    assert torch.equal(torch.get_rng_state(), random)
    for buffer, value in zip(module.buffers(), buffers, strict=True):
        assert torch.equal(buffer, value)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_diagnosis_that_fails_leaves_no_trace() -> None:
    module = network()
    trial = trial_of(module)

    def fail() -> Tensor:
        module(trial.images)
        raise KeyboardInterrupt

    before = fingerprint(module)
    with pytest.raises(KeyboardInterrupt):
        diagnose(Watch(module, 1), replace(trial, forward=fail), 1.0)
    assert fingerprint(module) == before


def test_the_replay_draws_what_the_step_drew() -> None:
    """A dropout that divides by its first draw is bad for this draw alone."""
    draws: list[float] = []

    class Unlucky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            draws.append(float(torch.rand(())))
            return x * (math.nan if draws[-1] < 0.1 else 1.0)

    found = fault(network(Unlucky()), replace(PLAIN, epochs=50))
    assert (found.kind, found.layer) == ("output", "left")
    assert draws[-1] == draws[-2]


def test_flags_and_gradients_after_a_fault() -> None:
    module = network(Break(backward=math.nan)).eval()
    fault(module)
    assert not any(sub.training for sub in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(len(sub._forward_hooks) + len(sub._forward_pre_hooks) == 0 for sub in module.modules())


def test_without_a_watch_there_is_no_fault() -> None:
    images, labels = data()
    with pytest.raises(DivergedError, match="lower the learning rate") as caught:
        fit(network(Break(math.nan)), images, labels, PLAIN, generator=generator())
    assert caught.value.fault is None


def test_dead_units() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.relu6 = nn.Conv2d(1, 5, 1), nn.ReLU(inplace=True), nn.ReLU6()
            self.leaky, self.head = nn.LeakyReLU(), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.leaky(self.relu6(self.act(self.conv(x))))
            return self.act(self.head(x.mean((2, 3))))  # type: ignore[no-any-return]

    module = Twice()
    images, _ = data(7)
    with torch.no_grad():
        module.conv.weight.zero_()
        module.conv.bias.copy_(torch.tensor([-1.0, 1.0, -1.0, 7.0, 0.0]))  # type: ignore[union-attr]
        # One channel lives at one image only, in the last batch.
        module.conv.weight[2] = 0.5
        images[:] = 0.0
        images[6, 0, 5, 5] = 4.0
        module.head.weight.zero_()
        module.head.bias.copy_(torch.tensor([-1.0, 1.0, 1.0]))
    before = fingerprint(module)
    assert dead_units(module, images, 3) == (("act", 2 + 1, 5 + 3), ("relu6", 2, 5))
    assert dead_units(module, images[:6], 6) == (("act", 3 + 1, 5 + 3), ("relu6", 3, 5))
    assert fingerprint(module) == before
    with pytest.raises(ValueError, match="0 images"):
        dead_units(module, images[:0], 3)


def test_is_dead() -> None:
    chance = math.log(10)
    limit = 0.1 + 3 * math.sqrt(0.09 / 400)
    assert is_dead([Epoch(0.1, 1.0), Epoch(chance, 0.1)], 10, 400)
    assert is_dead([Epoch(0.981 * chance, limit - 1e-9)], 10, 400)
    assert is_dead([Epoch(50.0, 0.1)], 10, 400)
    assert not is_dead([Epoch(0.979 * chance, 0.1)], 10, 400)
    assert not is_dead([Epoch(chance, limit + 1e-9)], 10, 400)
    for wrong in ([], 10, 5), ([Epoch(1, 1)], 1, 5), ([Epoch(1, 1)], 2, 0):
        with pytest.raises(ValueError, match="nothing to judge"):
            is_dead(*wrong)
