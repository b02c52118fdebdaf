"""Gradients of operations that have none: values stay, slopes are those of a wider range, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from studies.adversarial.remedies._case import AdaptedGradients, Case, GradientPath, Plan
from studies.adversarial.remedies._operations import REACH, OpenGradients, SquashedInputs, wider_slope
from studies.adversarial.remedies.logits import logits
from studies.adversarial.remedies.operations import operations

Function = Callable[[Tensor], Tensor]


def in_place(x: Tensor) -> Tensor:
    return (3 * x).round_() / 3


def unwatched(x: Tensor) -> Tensor:
    with torch.no_grad():
        y = 2 * x
    return y + 1


def through_numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(2 * x.detach().numpy())


STEPPED: dict[str, Function] = {
    "round": lambda x: (3 * x).round() / 3,
    "round to decimals": lambda x: torch.round(x, decimals=1),
    "in place": in_place,
    "floor": lambda x: torch.floor(4 * x),
    "floor division": lambda x: x // 0.1,
    "sign": lambda x: x.sign(),
    "greater": lambda x: (x > 0.1).float(),
    "less, turned round": lambda x: 1 - (x < 0.1).float(),
    "of two values": lambda x: torch.where(x > 0.1, 1.0, -1.0),
    "times a number": lambda x: (x >= 0.1) * 2.0,
    "integers": lambda x: (255 * x).int().float() / 255,
    "bytes without four bits": lambda x: ((255 * x.abs()).byte() // 16 * 16).float() / 255,
    "heaviside": lambda x: torch.heaviside(x - 0.1, torch.tensor(0.0)),
}
WAY_ROUND: dict[str, Function] = {
    "detached": lambda x: 2 * x.detach() + 1,
    "data": lambda x: 2 * x.data + 1,
    "no_grad": unwatched,
}


def opened(function: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values, and the gradient of their sum."""
    x = x.detach().clone().requires_grad_()
    with OpenGradients():
        y = function(x)
    return y.detach(), torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("name", STEPPED)
def test_steps_keep_their_values_and_get_the_slope_of_their_trend(name: str) -> None:
    x = torch.linspace(0 if name.startswith("bytes") else -1, 1, 2001)
    values, slope = opened(STEPPED[name], x)
    assert torch.allclose(values, STEPPED[name](x).float(), atol=1e-6)
    # Over all values, a slope integrates to the rise.
    rise = float(values[-1] - values[0])
    assert float(slope.mean() * (x[-1] - x[0])) == pytest.approx(rise, rel=0.15)


@pytest.mark.parametrize("name", WAY_ROUND)
def test_what_is_cut_off_gets_its_own_gradient(name: str) -> None:
    x = torch.linspace(-1, 1, 5)
    values, slope = opened(WAY_ROUND[name], x)
    assert torch.equal(values, 2 * x + 1)
    assert torch.equal(slope, torch.full((5,), 2.0))
    assert torch.is_grad_enabled()


def test_what_leaves_torch_still_runs_and_has_no_gradient() -> None:
    x = torch.linspace(-1, 1, 5).requires_grad_()
    with OpenGradients():
        y = through_numpy(x)
    assert torch.equal(y, 2 * x.detach())
    assert not y.requires_grad


def test_functions_with_gradients_keep_them() -> None:
    def smooth(x: Tensor) -> Tensor:
        return (x.tanh() * torch.where(x > 0, x, 0.1 * x)).exp()

    x = torch.linspace(-1, 1, 7).requires_grad_()
    (expected,) = torch.autograd.grad(smooth(x).sum(), x)
    values, slope = opened(smooth, x)
    assert torch.equal(values, smooth(x).detach())
    assert torch.equal(slope, expected)


@settings(max_examples=50, deadline=None)
@given(st.floats(-3, 3), st.floats(-2, 2), st.integers(3, 40))
def test_wider_slope_of_a_line_is_its_slope(slope: float, offset: float, n: int) -> None:
    x = torch.linspace(-1, 2, n)
    found = wider_slope(lambda values: slope * values + offset, x)
    assert torch.allclose(found, torch.full((n,), slope), atol=1e-4)


def test_wider_slope_of_a_sign_is_a_box() -> None:
    x = torch.linspace(-1, 1, 21) + 0.01
    reach = REACH * x.std(correction=0)
    assert torch.allclose(wider_slope(torch.sign, x), (x.abs() < reach).float() / reach, atol=1e-5)


def test_constant_inputs_have_no_slope() -> None:
    assert torch.equal(wider_slope(torch.sign, torch.full((3,), 0.5)), torch.zeros(3))


# Networks


class Coded(nn.Module):
    """Convolution, rounding, a linear layer, all in the code."""

    def __init__(self, between: Function) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(2, 1, 3, 3, generator=draws))
        self.second = nn.Parameter(torch.randn(3, 2 * 36, generator=draws))
        self.register_buffer("mean", torch.zeros(()))
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        h = self.between(F.conv2d(x, self.first))
        return h.flatten(1) @ self.second.T


def case(net: nn.Module, *failed: str) -> Case:
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = net(images).argmax(1)
    return Case(net, images, labels, frozenset(failed or {"zero-gradients"}), "Linf", 0.1, 0)


def test_rounding_in_the_code_is_found_and_passed() -> None:
    net = Coded(lambda h: (10 * h).round() / 10)
    there, plan = case(net), Plan()
    operations(there, plan)
    assert plan.path == GradientPath(operations=True)
    assert "round" in plan.words[0]
    assert "zero-gradients" in plan.words[0]
    x = there.images.clone().requires_grad_()
    (found,) = torch.autograd.grad(AdaptedGradients(net, plan.path)(x)[:, 0].sum(), x)
    (smooth,) = torch.autograd.grad(Coded(lambda h: h)(x)[:, 0].sum(), x)
    assert torch.cosine_similarity(found.flatten(1), smooth.flatten(1)).min() > 0.99
    assert torch.allclose(AdaptedGradients(net, plan.path)(x), net(x), atol=1e-5)


def test_nothing_is_changed_where_gradients_reach_the_pixels_or_no_check_asks() -> None:
    smooth, stepped = Coded(torch.tanh), Coded(torch.sign)
    for there in (case(smooth), case(stepped, "batch-dependence")):
        plan = Plan()
        operations(there, plan)
        assert plan == Plan()


def test_a_network_that_refuses_or_keeps_what_it_gets_is_left_alone() -> None:
    def refuses(h: Tensor) -> Tensor:
        if h.detach().sign().requires_grad:
            raise ValueError("a graph")
        return h.detach()

    assert case(Coded(refuses)).operations() == []
    net = Coded(torch.sign)

    def keeps(h: Tensor) -> Tensor:
        with torch.no_grad():
            net.mean.mul_(0.9).add_(0.1 * h.mean())  # type: ignore[operator, union-attr]
        return h.sign()

    net.between = keeps
    assert case(net).operations() == []
    assert not net.mean.requires_grad


def test_logits_are_found_before_a_softmax_in_the_code() -> None:
    net = Coded(lambda h: h)

    class Soft(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(100 * net(x), 1)

    there, plan = case(Soft(), "softmax-output"), Plan()
    logits(there, plan)
    assert plan.path == GradientPath(squashed=True)
    assert torch.equal(AdaptedGradients(there.module, plan.path)(there.images), 100 * net(there.images))


def test_inputs_of_a_softmax_that_is_not_the_output_are_not_taken_for_logits() -> None:
    x = torch.rand(2, 3)
    with SquashedInputs() as mode:
        outputs = 2 * torch.softmax(x, 1)
    assert mode.logits_of(outputs) is None
