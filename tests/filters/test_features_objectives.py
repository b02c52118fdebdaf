"""The objectives are what they say, and their gradients reach the coefficients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from probe.core.errors import UsageError
from studies.filters.optimise import (
    Channel,
    Class,
    FourierBasis,
    Objective,
    Parametrisation,
    Transforms,
    UnitObjective,
)
from studies.filters.optimise.objectives import evaluate, stack

maps = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def value(objective: Objective, output: Tensor) -> Tensor:
    return evaluate(output, stack([objective] * len(output), output.shape[1:]))


@given(maps, st.data())
def test_channel_is_the_mean_and_unit_the_middle(shape: tuple[int, int, int], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, shape[0] - 1))
    output = torch.randn(3, *shape, generator=seeded(0), dtype=torch.float64)
    torch.testing.assert_close(value(Channel(index), output), output[:, index].mean((1, 2)))
    middle = output[:, index, shape[1] // 2, shape[2] // 2]
    torch.testing.assert_close(value(UnitObjective(index), output), middle)


def test_class_is_the_logit() -> None:
    logits = torch.randn(4, 6, generator=seeded(0))
    torch.testing.assert_close(value(Class(5), logits), logits[:, 5])


def test_each_picture_has_its_own_objective() -> None:
    output = torch.randn(3, 4, 5, 5, generator=seeded(0))
    objectives: list[Objective] = [Channel(1), UnitObjective(3), Channel(0, -1)]
    expected = torch.stack([output[0, 1].mean(), output[1, 3, 2, 2], output[2, 0].mean()])
    torch.testing.assert_close(evaluate(output, stack(objectives, output.shape[1:])), expected)


def test_half_precision_outputs_are_summed_in_single_precision() -> None:
    output = torch.full((1, 1, 64, 64), 1.0).bfloat16()
    output[0, 0, 0, 0] = 0
    assert value(Channel(0), output).item() == pytest.approx(1 - 1 / 4096, rel=1e-6)


@pytest.mark.parametrize(
    ("objective", "shape", "words"),
    [
        (Channel(4), (4, 3, 3), "no channel 4.*0 to 3"),
        (UnitObjective(-1), (4, 3, 3), "no channel -1"),
        (Class(10), (10,), "no class 10.*0 to 9"),
        (Channel(0), (10,), "channel needs an output with 3 dimensions"),
        (Class(0), (4, 3, 3), "class needs an output with 1 dimensions"),
    ],
)
def test_what_is_not_there_is_refused(objective: Objective, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        objective.weights(shape)


def test_keys_tell_objectives_apart() -> None:
    several = [kind(i, sign) for kind in (Channel, UnitObjective, Class) for i in (1, 11) for sign in (1, -1)]  # type: ignore[arg-type]
    assert len({objective.key for objective in several}) == len(several)


@pytest.mark.parametrize("objective", [Channel(1), UnitObjective(2), Class(1)])
def test_gradients_agree_with_finite_differences(objective: Objective) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 3, stride=2)).double()
    if isinstance(objective, Class):
        network.append(nn.Flatten()).append(nn.Linear(3 * 2 * 3, 5).double())
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(number), dtype=torch.float64) / 3)
    size = (8, 9)
    parametrisation = Parametrisation(FourierBasis(*size))
    movement = Transforms(jitter=2, last_jitter=1).draw(1, size, seeded(5)).double()
    start = torch.randn(1, 3, *parametrisation.basis.shape, generator=seeded(6), dtype=torch.float64)

    def objective_of(coefficients: Tensor) -> Tensor:
        pictures = Transforms.apply(parametrisation.pictures(coefficients), movement)
        return value(objective, network(pictures))[0]

    start.requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective_of(start), start)
    assert gradient.abs().max() > 0
    with torch.no_grad():
        for direction in range(4):
            along = torch.randn(start.shape, generator=seeded(10 + direction), dtype=torch.float64)
            step = 1e-5
            slope = (objective_of(start + step * along) - objective_of(start - step * along)) / (2 * step)
            assert slope.item() == pytest.approx((gradient * along).sum().item(), rel=1e-6, abs=1e-9)
