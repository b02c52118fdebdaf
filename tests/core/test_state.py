"""Everything that changes a module's state puts it back, also after an exception."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from probe.core.state import captured, fingerprint, forward_hooks, frozen_parameters, training_mode


class Net(nn.Module):
    """A norm followed by an in-place activation; the activation is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.relu(self.norm(self.conv(x))) - 0.1)


@pytest.fixture
def net() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net()
    net.norm.eval()  # a mixture of flags must come back as a mixture
    net.conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    return net


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.conv.weight.data.add_(1e-7),
        lambda net: net.norm.running_mean.add_(1e-7),
        lambda net: net.norm.train(),
        lambda net: net.relu.register_forward_hook(lambda *a: None),
        lambda net: net.relu.register_full_backward_hook(lambda *a: None),
        lambda net: net.conv.weight.requires_grad_(False),
        lambda net: setattr(net.conv, "left_behind", 1),
        lambda net: setattr(net.conv.weight, "grad", torch.zeros_like(net.conv.weight)),
        lambda net: setattr(net, "relu", nn.ReLU6()),
    ],
)
def test_fingerprint_sees_every_kind_of_change(net: Net, change: Callable[[Net], object]) -> None:
    before = fingerprint(net)
    assert fingerprint(net) == before
    change(net)
    assert fingerprint(net) != before


def test_fingerprint_reads_every_number_type() -> None:
    net = nn.Module()
    for name in ("bfloat16", "float16", "int64", "bool", "float64"):
        net.register_buffer(f"a_{name}", torch.ones(3, dtype=getattr(torch, name)))
    net.register_buffer("empty", torch.empty(0))
    net.register_buffer("scalar", torch.tensor(1.0))
    before = fingerprint(net)
    net.get_buffer("a_bfloat16")[1] = 0
    assert fingerprint(net) != before


MANAGERS: list[Callable[[nn.Module], AbstractContextManager[object]]] = [
    lambda net: training_mode(net, True),
    lambda net: training_mode(net, False),
    frozen_parameters,
    lambda net: forward_hooks(net, {"conv": lambda *a: None, "norm": lambda *a: None}),
    lambda net: captured(net, ["conv", "relu"]),
]


@pytest.mark.parametrize("manager", MANAGERS)
def test_state_comes_back(net: Net, manager: Callable[[nn.Module], AbstractContextManager[object]]) -> None:
    before = fingerprint(net)
    with manager(net):
        pass
    assert fingerprint(net) == before


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_state_comes_back_after_an_exception(
    net: Net,
    manager: Callable[[nn.Module], AbstractContextManager[object]],
    error: type[BaseException],
) -> None:
    before = fingerprint(net)
    with pytest.raises(error), manager(net):
        raise error
    assert fingerprint(net) == before


def test_an_unknown_layer_leaves_no_hook_on_the_known_ones(net: Net) -> None:
    before = fingerprint(net)
    with (
        pytest.raises(AttributeError),
        forward_hooks(net, {"conv": lambda *a: None, "nowhere": lambda *a: None}),
    ):
        pass
    assert fingerprint(net) == before


def test_captured_sees_the_value_before_an_in_place_operation(net: Net) -> None:
    x = torch.linspace(-1, 1, 25).view(1, 1, 5, 5)
    expected = net.norm(net.conv(x))
    with captured(net, ["norm", "relu"]) as outputs:
        net(x)
    assert (expected < 0).any()
    assert torch.equal(outputs["norm"][0], expected.detach())
    assert len(outputs["relu"]) == 2
