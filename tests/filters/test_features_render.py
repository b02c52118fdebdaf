"""The optimisation: known optima, reproducibility, independence, and nothing left behind."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probe.core.errors import UsageError
from probe.core.seeds import scoped
from probe.core.state import fingerprint
from studies.filters.optimise import (
    Channel,
    Class,
    Objective,
    PictureRecipe,
    PictureSubject,
    Rendering,
    Transforms,
    UnitObjective,
    render,
)

STILL = Transforms.none()
SIZE = (16, 14)


def network() -> nn.Sequential:
    with scoped(3):
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2)).eval()


def rendered(
    objectives: list[Objective], *, seed: int = 0, steps: int = 12, batch_size: int = 8, half: bool = False
) -> Rendering:
    recipe = PictureRecipe(steps, batch_size=batch_size, half=half)
    return render(PictureSubject(network(), "layer"), objectives, SIZE, recipe, seed=seed)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(np.corrcoef(a.double().flatten().numpy(), b.double().flatten().numpy())[0, 1])


def edges() -> list[Tensor]:
    """Filters of −1 and 1: for such a filter the best pixels in [0, 1] are (filter + 1) / 2, exactly."""
    upper = torch.ones(1, 9, 9)
    upper[:, 5:] = -1
    dot = torch.ones(1, 9, 9)
    dot[:, 3:6, 2:7] = -1
    noise = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(0)).sub(0.5).sign()
    return [upper, dot, noise]


@pytest.mark.parametrize("kernel", edges(), ids=["edge", "dot", "noise"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_picture_of_a_linear_filter_is_the_filter(kernel: Tensor, sign: int) -> None:
    linear = nn.Conv2d(1, 1, 9, bias=False)
    linear.weight.data.copy_(kernel[None])
    objective = UnitObjective(0, 1 if sign == 1 else -1)
    found = render(
        PictureSubject(linear), [objective], (9, 9), PictureRecipe(200, transforms=STILL), channels=1
    )
    assert sign * correlation(found.pictures[0], kernel) > 0.9
    best = float((sign * kernel).clamp_min(0).sum()) if sign == 1 else -float((-kernel).clamp_min(0).sum())
    assert found.values[0].item() == pytest.approx(best, rel=0.1)


def test_the_best_picture_survives_movements() -> None:
    kernel = edges()[0]
    linear = nn.Conv2d(1, 1, 9, bias=False)
    linear.weight.data.copy_(kernel[None])
    found = render(PictureSubject(linear), [UnitObjective(0)], (9, 9), PictureRecipe(200), channels=1)
    assert correlation(found.pictures[0], kernel) > 0.9


def test_each_objective_can_have_movements_of_its_own() -> None:
    objectives: list[Objective] = [Channel(0), UnitObjective(1), Channel(2, -1)]
    free = Transforms.for_size(SIZE)
    sets = (free, free.within(0.0), STILL)
    subject = PictureSubject(network(), "layer")
    together = render(subject, objectives, SIZE, PictureRecipe(6, transforms=sets, batch_size=2))
    for row, (objective, transforms) in enumerate(zip(objectives, sets, strict=True)):
        alone = render(subject, [objective], SIZE, PictureRecipe(6, transforms=transforms))
        torch.testing.assert_close(together.pictures[row], alone.pictures[0], rtol=0, atol=1e-4)
    assert not torch.allclose(
        together.pictures[1], render(subject, objectives[1:2], SIZE, PictureRecipe(6)).pictures[0], atol=1e-3
    )


def test_colours_find_the_channel_that_counts() -> None:
    linear = nn.Conv2d(3, 1, 1, bias=False)
    linear.weight.data.copy_(torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1))
    red = render(PictureSubject(linear), [Channel(0)], (8, 8), PictureRecipe(200)).pictures[0].mean((1, 2))
    assert red[0] > red[1] + 0.2
    assert red[0] > red[2] + 0.2


def test_optimisation_raises_and_lowers_every_channel() -> None:
    channels = range(5)
    most = rendered([Channel(c) for c in channels], steps=40)
    least = rendered([Channel(c, -1) for c in channels], steps=40)
    grey = network()(torch.full((1, 3, *SIZE), 0.5))[0].mean((1, 2)).detach()
    assert (most.values > grey + 0.05).all()
    assert (least.values < grey - 0.05).all()
    assert (most.history[-1] > most.history[0]).all()
    assert (least.history[-1] < least.history[0]).all()


def test_values_are_those_of_the_final_pictures_and_history_has_every_step() -> None:
    found = rendered([Channel(0), UnitObjective(3), Channel(2, -1)], steps=7)
    output = network()(found.pictures)
    expected = torch.stack([output[0, 0].mean(), output[1, 3, 3, 2], output[2, 2].mean()]).detach()
    assert output.shape[2:] == (6, 5)
    torch.testing.assert_close(found.values, expected)
    assert found.history.shape == (7, 3)
    assert found.pictures.shape == (3, 3, *SIZE)
    assert found.pictures.dtype == torch.float32
    assert found.pictures.min() >= 0
    assert found.pictures.max() <= 1


def test_the_same_seed_gives_the_same_pictures() -> None:
    objectives: list[Objective] = [Channel(0), UnitObjective(1), Channel(2, -1)]
    first, again = rendered(objectives), rendered(objectives)
    assert torch.equal(first.pictures, again.pictures)
    assert torch.equal(first.values, again.values)
    assert (first.pictures - rendered(objectives, seed=1).pictures).abs().mean() > 1e-3


def test_a_layer_of_another_name_draws_other_numbers() -> None:
    first, second = (
        render(PictureSubject(network(), name), [Channel(0)], SIZE, PictureRecipe(1)).pictures
        for name in "ab"
    )
    assert not torch.equal(first, second)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_pictures_do_not_depend_on_their_company(batch_size: int) -> None:
    objectives: list[Objective] = [Channel(0), Channel(4), UnitObjective(2), Channel(3, -1), Channel(0, -1)]
    together = rendered(objectives, steps=6)
    split = rendered(objectives, steps=6, batch_size=batch_size)
    backwards = rendered(objectives[::-1], steps=6, batch_size=batch_size)
    alone = rendered([objectives[2]], steps=6)
    torch.testing.assert_close(split.pictures, together.pictures, rtol=0, atol=1e-4)
    torch.testing.assert_close(backwards.pictures.flip(0), together.pictures, rtol=0, atol=1e-4)
    torch.testing.assert_close(alone.pictures[0], together.pictures[2], rtol=0, atol=1e-4)
    torch.testing.assert_close(split.history, together.history, rtol=0, atol=1e-4)


def test_opposite_directions_start_from_different_noise() -> None:
    found = rendered([Channel(0), Channel(0, -1), UnitObjective(0)], steps=1)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert correlation(found.pictures[a], found.pictures[b]) < 0.9


def test_class_objectives_raise_a_logit() -> None:
    with scoped(1):
        classifier = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
        )
    found = render(PictureSubject(classifier), [Class(0), Class(2)], SIZE, PictureRecipe(60))
    grey = classifier(torch.full((1, 3, *SIZE), 0.5))[0].detach()
    assert found.values[0] > grey[0] + 0.02
    assert found.values[1] > grey[2] + 0.02


def test_a_half_precision_network_gets_as_far() -> None:
    objectives: list[Objective] = [Channel(0), Channel(1, -1)]
    exact, half = rendered(objectives, steps=40), rendered(objectives, steps=40, half=True)
    assert half.pictures.dtype == half.values.dtype == torch.float32
    torch.testing.assert_close(half.values, exact.values, rtol=0.1, atol=0.02)


def test_a_fast_copy_is_used_for_gradients_only() -> None:
    class Doubled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * network()(x)

    plain = render(PictureSubject(network()), [Channel(0)], SIZE, PictureRecipe(5))
    fast = render(PictureSubject(network(), fast=Doubled()), [Channel(0)], SIZE, PictureRecipe(5))
    torch.testing.assert_close(fast.pictures, plain.pictures, rtol=0, atol=1e-5)
    torch.testing.assert_close(fast.values, plain.values)
    torch.testing.assert_close(fast.history, 2 * plain.history, rtol=1e-4, atol=1e-5)


def test_a_dead_channel_gives_a_finite_picture() -> None:
    dead = nn.Conv2d(3, 1, 3)
    nn.init.zeros_(dead.weight)
    found = render(PictureSubject(dead), [Channel(0)], SIZE, PictureRecipe(30))
    assert torch.isfinite(found.pictures).all()
    assert found.values[0].item() == pytest.approx(dead.bias.item(), abs=1e-6)


@pytest.mark.parametrize("transforms", [STILL, None])
def test_a_channel_that_is_silent_on_grey_is_woken(transforms: Transforms | None) -> None:
    with scoped(0):
        edge = nn.Conv2d(1, 1, 3, bias=True)
    edge.weight.data.copy_(torch.tensor([[-1.0, 0, 1]] * 3)[None, None])
    edge.bias.data.fill_(-0.5)
    layer = nn.Sequential(edge, nn.ReLU(), nn.MaxPool2d(2))
    assert float(layer(torch.full((1, 1, 32, 32), 0.5)).detach().max()) == 0
    found = render(
        PictureSubject(layer), [Channel(0)], (32, 32), PictureRecipe(60, transforms=transforms), channels=1
    )
    assert found.history[0, 0] == 0
    assert found.values[0] > 0.3


def test_an_exploding_network_gives_finite_pictures() -> None:
    class Exploding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.log().log()

    found = render(PictureSubject(Exploding()), [Channel(0)], SIZE, PictureRecipe(3))
    assert torch.isfinite(found.pictures).all()


def test_no_objectives_give_no_pictures() -> None:
    found = rendered([])
    assert found.pictures.shape == (0, 3, *SIZE)
    assert found.values.shape == (0,)


def test_progress_counts_every_step_of_every_picture() -> None:
    done: list[float] = []
    objectives = [Channel(c) for c in range(5)]
    render(PictureSubject(network()), objectives, SIZE, PictureRecipe(4, batch_size=2), advance=done.append)
    assert sum(done) == 20


@pytest.mark.parametrize("options", [{"steps": 0}, {"steps": -3}, {"batch_size": 0}])
def test_numbers_below_one_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        PictureRecipe(**options)  # type: ignore[arg-type]


def test_a_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no channel 5"):
        rendered([Channel(5)])


def test_the_rate_falls_from_full_to_a_tenth() -> None:
    recipe = PictureRecipe(101, rate=2.0)
    rates = [recipe.rate_at(step) for step in range(102)]
    assert rates[0] == 2.0
    assert rates[101] == pytest.approx(0.2)
    assert all(a > b for a, b in itertools.pairwise(rates))


def global_state() -> tuple[object, ...]:
    numpy_state = np.random.get_state(legacy=False)
    return (
        torch.get_rng_state().tolist(),
        str(numpy_state),
        random.getstate(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.are_deterministic_algorithms_enabled(),
    )


class Stopped(Exception):
    """Raised from within."""


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_nothing_is_left_behind(failing: bool, half: bool) -> None:
    module = network()
    module[0].weight.requires_grad_(False)  # one frozen, the others not: each flag must come back
    before, state = fingerprint(module), global_state()

    def advance(_units: float) -> None:
        if failing:
            raise Stopped

    try:
        render(PictureSubject(module), [Channel(0)], SIZE, PictureRecipe(3, half=half), advance=advance)
        assert not failing
    except Stopped:
        assert failing
    assert fingerprint(module) == before
    assert global_state() == state


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_switched_off(context: type[torch.no_grad]) -> None:
    module = network()
    with context():
        found = render(PictureSubject(module, "layer"), [Channel(0)], SIZE, PictureRecipe(12))
        assert not torch.is_grad_enabled()
    torch.testing.assert_close(found.pictures, rendered([Channel(0)]).pictures)
