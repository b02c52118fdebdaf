"""The learning-rate sweep against the rate at which gradient descent on a quadratic must diverge."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from probe.core.state import fingerprint
from probe.tools.doctor.plan import TrainingPlan
from probe.tools.doctor.sweep import Point, Sweep, grid, sweep


class Quadratic(nn.Module):
    """Loss ½ Σ c w²: plain gradient descent is stable below 2 / max(c), and best at 2 / (min c + max c)."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, 2))
        self.register_buffer("curvature", torch.tensor([1.0, 10.0]))

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * self.curvature * self.w.square() + 0 * x.sum()  # type: ignore[operator, no-any-return]


def plan(lr: float, steps: int = 40) -> TrainingPlan:
    def plain(parameters: list[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, rate)

    return TrainingPlan(
        Quadratic(), torch.zeros(4, 1), torch.zeros(4), lambda out, _: out.sum(), plain, lr, steps, 4, seed=0
    )


def test_the_largest_stable_rate_is_below_two_over_the_curvature() -> None:
    rates = (0.001, 0.01, 0.1, 0.19, 0.21, 0.3, 1.0)
    tried = sweep(plan(0.1), rates)
    assert tried.stable == 0.19
    assert tried.bounded
    outcomes = {one.lr: one.outcome for one in tried.points}
    assert outcomes[0.19] == "learned"
    assert outcomes[0.21] == outcomes[0.3] == "grew"
    assert tried.suggestion is not None
    assert tried.suggestion <= 0.19 / 2 + 1e-12


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.19])
def test_the_loss_after_each_rate_is_that_of_the_closed_form(rate: float) -> None:
    tried = sweep(plan(rate), (rate,), steps=12)
    expected = sum(0.5 * c * (1 - rate * c) ** (2 * 12) for c in (1.0, 10.0))
    assert tried.points[0].after == pytest.approx(expected, rel=1e-4)
    assert tried.before == pytest.approx(5.5)
    assert tried.points[0].steps == tried.steps == 12


def test_every_rate_starts_from_the_same_weights_which_stay() -> None:
    one = plan(0.1)
    before = fingerprint(one.module)
    forward, backward = sweep(one, (0.01, 0.1)), sweep(one, (0.1,))
    assert forward.points[1] == backward.points[0]
    assert fingerprint(one.module) == before


def test_the_grid_contains_the_rate_and_is_even_in_the_logarithm() -> None:
    rates = grid(0.03)
    assert any(rate == pytest.approx(0.03) for rate in rates)
    ratios = [b / a for a, b in pairwise(rates)]
    assert ratios == pytest.approx([10**0.5] * len(ratios))
    assert max(grid(30.0)) <= 100.0
    assert grid(500.0)[-1] == pytest.approx(500.0)


def test_rates_after_two_that_diverge_are_left_out() -> None:
    class Cliff(Quadratic):
        def forward(self, x: Tensor) -> Tensor:
            return torch.exp(self.w.square() * 30) * 1e-6 + 0 * x.sum()  # type: ignore[no-any-return]

    one = plan(0.1)
    steep = TrainingPlan(Cliff(), one.images, one.labels, one.loss, one.optimiser, 1e-6, 5, 4, seed=0)
    tried = sweep(steep, (1e-9, 1e3, 1e4, 1e5, 1e6))
    assert [point.lr for point in tried.points] == [1e-9, 1e3, 1e4]
    assert [point.outcome for point in tried.points[1:]] == ["diverged", "diverged"]


def test_nothing_is_suggested_where_nothing_learned() -> None:
    tried = Sweep((Point(0.1, 2.3, "stalled", 5), Point(1.0, 9.0, "grew", 5)), 2.3, 5)
    assert tried.stable is tried.best is tried.suggestion is None
    assert not tried.bounded


def test_a_gap_ends_what_is_stable() -> None:
    outcomes = ("stalled", "learned", "grew", "learned")
    points = tuple(Point(10.0**k, 2 - k / 10, outcome, 5) for k, outcome in enumerate(outcomes))  # type: ignore[arg-type]
    tried = Sweep((*points[:3], Point(1000.0, 1.95, "learned", 5)), 2.3, 5)
    assert tried.stable == 10.0
    assert tried.suggestion == 5.0


def test_no_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="no learning rate"):
        sweep(plan(0.1), ())
