"""Certified bounds: exact where the network is linear, and never above what an attack finds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.attacks.norms import get_norm
from probe.certify.bounds import SLACK, BoundedNetwork
from probe.core.errors import NotApplicableError


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], -torch.inf).amax(1)


def weak_point(
    module: nn.Module, x: Tensor, y: Tensor, epsilon: float, norm: str, draw: torch.Generator
) -> Tensor:
    """The least margin that gradient descent from random starts finds in the ball."""
    kind, least = get_norm(norm), margin(module(x), y).detach()
    moved = kind.project(x, x + epsilon * torch.randn(x.shape, generator=draw), epsilon)
    for step in range(12):
        moved = moved.detach().requires_grad_()
        value = margin(module(moved), y)
        least = least.minimum(value.detach())
        (gradient,) = torch.autograd.grad(value.sum(), moved)
        moved = kind.project(x, moved - epsilon * 0.6**step * kind.steepest(gradient), epsilon)
    return least


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_bounds_of_a_linear_network_are_exact(norm: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)
    ).double()
    net.eval().requires_grad_(False)
    x = 0.4 + 0.2 * torch.rand(3, 2, 6, 6, dtype=torch.float64)
    y, epsilon = net(x).argmax(1), 0.02
    found = BoundedNetwork(net, x[:1]).margins(x, y, epsilon, get_norm(norm))
    for image, label, bound in zip(x, y, found, strict=True):
        matrix = torch.func.jacrev(lambda z: net(z[None])[0])(image).flatten(1)
        logits = net(image[None])[0]
        dual = {"Linf": 1.0, "L2": 2.0, "L1": torch.inf}[norm]
        others = [k for k in range(4) if k != label]
        exact = min(
            float(logits[label] - logits[k] - epsilon * (matrix[label] - matrix[k]).norm(dual))
            for k in others
        )
        assert float(bound) == pytest.approx(exact - SLACK * max(1.0, float(logits.abs().max())), abs=1e-12)


def test_pixels_outside_black_and_white_are_not_reckoned_with() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2)).eval().requires_grad_(False)
    net[1].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    net[1].bias.copy_(torch.tensor([0.0, 0.0]))
    bounded = BoundedNetwork(net, torch.zeros(1, 1, 1, 1))
    image, label = torch.full((1, 1, 1, 1), 0.1), torch.tensor([0])
    # The margin is 2x, and x stays at 0 or above.
    for norm in ("Linf", "L2", "L1"):
        assert float(bounded.margins(image, label, 0.5, get_norm(norm))) == pytest.approx(-SLACK, abs=1e-9)


def test_where_no_relu_changes_side_the_bound_is_that_of_the_gradient() -> None:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    ).double()
    net.eval().requires_grad_(False)
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64) * 0.8 + 0.1
    y, epsilon = net(x).argmax(1), 1e-6
    gradient = torch.func.jacrev(lambda z: net(z)[0])(x).flatten(1)
    logits = net(x)[0]
    exact = min(
        float(logits[y] - logits[k] - epsilon * (gradient[y] - gradient[k]).norm(1))
        for k in range(3)
        if k != int(y)
    )
    found = float(BoundedNetwork(net, x).margins(x, y, epsilon, get_norm("Linf")))
    assert found == pytest.approx(exact - SLACK * max(1.0, float(logits.abs().max())), abs=1e-12)


class Spelled(nn.Module):
    """Shortcut, concatenation, functions, in-place operators."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu((x - 0.5) / 0.25 * torch.ones(1) + self.a(x))
        b = self.b(a)
        b += a
        b = torch.cat([F.leaky_relu(b, 0.2), b.clamp(min=-0.2, max=0.4)], 1)
        return self.out(F.max_pool2d(b, 3, 2, 1, ceil_mode=True).mean((2, 3)))


def random_network(draw: torch.Generator) -> nn.Module:
    """A small network of random layers and weights; every one has other shapes."""

    def pick(*choices: object) -> object:
        return choices[int(torch.randint(len(choices), (), generator=draw))]

    channels, layers, size = 1, [], 6
    for _ in range(int(torch.randint(1, 4, (), generator=draw))):
        wide = int(pick(2, 3))  # type: ignore[call-overload]
        layers.append(nn.Conv2d(channels, wide, 3, padding=1, groups=1))
        if pick(True, False):
            norm = nn.BatchNorm2d(wide)
            norm.running_mean.normal_(0, 0.3, generator=draw)  # type: ignore[union-attr]
            norm.running_var.uniform_(0.5, 2, generator=draw)  # type: ignore[union-attr]
            layers.append(norm)
        layers.append(pick(nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.Hardtanh(-0.5, 0.7)))
        if size > 2 and pick(True, False):
            layers.append(pick(nn.MaxPool2d(2), nn.AvgPool2d(2)))
            size //= 2
        channels = wide
    net = (
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * size * size, 3))
        .eval()
        .requires_grad_(False)
    )  # type: ignore[arg-type]
    for parameter in net.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 1.5 / parameter[0].numel() ** 0.5, generator=draw)
    return net


def check_soundness(count: int, seed: int) -> int:
    """Attack ``count`` random networks in every norm; return how many images were certified."""
    draw, proved = torch.Generator().manual_seed(seed), 0
    for _ in range(count):
        net = random_network(draw)
        x = torch.rand(2, 1, 6, 6, generator=draw)
        y = net(x).argmax(1)
        bounded = BoundedNetwork(net, x[:1])
        for norm, reach in (("Linf", 0.03), ("L2", 0.15), ("L1", 0.5)):
            epsilon = reach * float(torch.rand((), generator=draw))
            found = bounded.margins(x, y, epsilon, get_norm(norm))
            weak = weak_point(net, x, y, epsilon, norm, draw)
            assert (found <= weak.double() + 1e-6).all(), (norm, epsilon)
            assert (weak[found > 0] > 0).all()
            proved += int((found > 0).sum())
    return proved


def test_no_attack_breaks_what_is_certified() -> None:
    proved = check_soundness(15, seed=0)
    assert 30 <= proved < 90  # of 90: neither nothing nor everything is proved


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_no_attack_breaks_what_is_certified_in_thousands_of_networks(seed: int) -> None:
    assert check_soundness(200, seed) > 400


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_functions_shortcuts_and_in_place_operators_are_bounded(norm: str) -> None:
    torch.manual_seed(3)
    net, draw = Spelled().eval().requires_grad_(False), torch.Generator().manual_seed(0)
    x = torch.rand(3, 1, 7, 7, generator=draw)
    y = net(x).argmax(1)
    bounded = BoundedNetwork(net, x[:1])
    at_zero = bounded.margins(x, y, 0.0, get_norm(norm))
    size = net(x).abs().amax(1).clamp_min(1).double()
    assert torch.allclose(at_zero, margin(net(x), y).double() - SLACK * size, atol=1e-5)
    assert (
        bounded.margins(x, y, 0.02, get_norm(norm)) <= weak_point(net, x, y, 0.02, norm, draw).double()
    ).all()


class Gated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x * x.mean((2, 3), keepdim=True)).flatten(1)


class Saturating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x).flatten(1)


class Hidden(nn.Module):
    """Gradients do not see what this depends on."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) - 2 * x.detach().flatten(1)


class HiddenInData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) - 2 * x.data.flatten(1)


def hooked(layer: nn.Module) -> nn.Module:
    """A layer whose output a hook changes for large values only, which a look at one image does not show."""
    layer.register_forward_hook(lambda _, __, out: torch.where(out > 5, -out, out))
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2), layer)


class RoundingLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.round())


@pytest.mark.parametrize(
    ("net", "word"),
    [
        (Gated(), "mul"),
        (Saturating(), "Sigmoid"),
        (Hidden(), "detach"),
        (HiddenInData(), "getattr"),
        (nn.Sequential(nn.Flatten(), RoundingLinear(4, 2)), "round|RoundingLinear"),
        (hooked(nn.ReLU()), "ReLU|where|gt"),
    ],
)
def test_what_has_no_bounds_is_named(net: nn.Module, word: str) -> None:
    with pytest.raises(NotApplicableError, match=word):
        BoundedNetwork(net.eval(), torch.rand(1, 1, 2, 2))


def test_there_are_no_bounds_for_l0() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval().requires_grad_(False)
    with pytest.raises(NotApplicableError, match="L0"):
        BoundedNetwork(net, torch.rand(1, 1, 2, 2)).margins(
            torch.rand(1, 1, 2, 2), torch.tensor([0]), 1.0, get_norm("L0")
        )
