from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import graph_networks as nets
from torch import Tensor, nn

from probe.core.errors import NotApplicableError, UsageError
from probe.core.state import captured, fingerprint
from probe.graph.edit.truncate import ends_in_activation, truncate
from probe.graph.trace.trace import TraceError


def value_at(network: nn.Module, layer: str, pixels: Tensor) -> Tensor:
    """Run the whole network with a cloning hook, the slow and certain way."""
    with captured(network, [layer], detach=False) as outputs:
        network(pixels.clone())
    return outputs[layer][-1]


def gradient(function: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    leaf = pixels.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(leaf).pow(2).sum(), leaf)
    return found


LAYERS = [
    (nets.Plain, ["conv1", "bn1", "conv2", "relu", "body", "body.0", "body.1", "fc"]),
    (nets.LateChange, ["conv", "bn", "act", "last"]),
    (nets.ChangedInput, ["conv"]),
    (nets.SizeDependent, ["conv"]),
    (nets.Branching, ["first", "first.0", "bn", "act", "last"]),
    (nets.BatchDependent, ["conv"]),
]


@pytest.mark.parametrize(("make", "layer"), [(make, layer) for make, layers in LAYERS for layer in layers])
def test_value_and_gradient_are_those_of_the_whole_network(make: type[nn.Module], layer: str) -> None:
    network, pixels = nets.seeded(make).double(), nets.images(3, seed=5).double()
    before = fingerprint(network)
    head = truncate(network, layer, nets.images().double())
    kept = pixels.clone()
    torch.testing.assert_close(head(pixels), value_at(network, layer, pixels))
    assert torch.equal(pixels, kept)
    if make is not nets.BatchDependent:
        torch.testing.assert_close(
            gradient(head, pixels), gradient(lambda x: value_at(network, layer, x), pixels)
        )
    assert fingerprint(network) == before


def test_later_layers_are_not_computed() -> None:
    class Tripwire(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.cholesky(-x.flatten(2).abs() @ x.flatten(2).abs().mT)

    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3))
    head = truncate(network, "0", nets.images())
    assert [name for name, _ in head.named_parameters()] == ["0.weight", "0.bias"]
    branch = nets.seeded(nets.Branching)
    branch.last = Tripwire()
    with pytest.raises(torch.linalg.LinAlgError):
        branch(nets.images())
    assert upto_without_running(branch, "act", nets.images()).min() >= 0


def upto_without_running(network: nn.Module, layer: str, pixels: Tensor) -> Tensor:
    """Cut a network that runs once and then fails in its last layer."""
    broken, network.last = network.last, nn.Identity()
    head = truncate(network, layer, pixels)
    head.network.last = broken
    return head(pixels)


def test_parallel_branches_are_dropped() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right = (nn.Conv2d(3, 3, 1) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.left(x) + self.right(x)

    head = truncate(Fork(), "right", nets.images())
    assert {name.split(".")[0] for name, _ in head.named_parameters()} == {"stem", "right"}


def test_a_dead_operation_that_changes_a_value_before_it_is_read_is_kept() -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act, self.last = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            self.act(x[:, :2])
            y = self.last(x)
            x.zero_()
            return y

    network = Dead()
    torch.testing.assert_close(
        truncate(network, "last", nets.images())(nets.images()), network(nets.images())
    )


def test_before_activation() -> None:
    network = nets.seeded(nets.Plain)
    pixels = nets.images()
    inner = value_at(network, "body.0", pixels)
    assert inner.min() < 0
    for layer in ("body", "body.1"):
        torch.testing.assert_close(truncate(network, layer, pixels, before_activation=True)(pixels), inner)
        torch.testing.assert_close(truncate(network, layer, pixels)(pixels), inner.clamp(0, 6))
        assert ends_in_activation(network, layer, pixels) == "ReLU6"
    assert ends_in_activation(network, "body.0", pixels) is None
    torch.testing.assert_close(truncate(network, "body.0", pixels, before_activation=True)(pixels), inner)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.relu, "ReLU"),
        (lambda x: x.relu_(), "ReLU"),
        (nn.functional.leaky_relu, "LeakyReLU"),
        (nn.functional.hardswish, "Hardswish"),
        (nn.functional.silu, "SiLU"),
        (nn.functional.gelu, "GELU"),
        (lambda x: nn.functional.dropout(torch.sigmoid(x), training=False), "Sigmoid"),
        (lambda x: x * 2, None),
    ],
)
def test_functional_activations_are_recognised(
    function: Callable[[Tensor], Tensor], name: str | None
) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return function(self.conv(x))

    network, pixels = nn.Sequential(Block(), nn.Conv2d(4, 2, 1)), nets.images()
    assert ends_in_activation(network, "0", pixels) == name
    before = truncate(network, "0", pixels, before_activation=True)(pixels)
    torch.testing.assert_close(before, value_at(network, "0.conv" if name else "0", pixels))


def test_before_activation_without_a_graph() -> None:
    network, pixels = nets.seeded(nets.Branching), nets.images()
    for layer, inner in (("first", "first.0"), ("act", "bn")):
        assert ends_in_activation(network, layer, pixels) == "ReLU"
        found = truncate(network, layer, pixels, before_activation=True)(pixels)
        torch.testing.assert_close(found, value_at(network, inner, pixels))
    assert ends_in_activation(network, "bn", pixels) is None


def test_a_head_takes_other_batches_and_sizes() -> None:
    network = nets.seeded(nets.Plain)
    head = truncate(network, "body", nets.images(2, 16))
    pixels = nets.images(5, (24, 20))
    torch.testing.assert_close(head(pixels), value_at(network, "body", pixels))


def test_a_head_for_one_size_refuses_another() -> None:
    head = truncate(nets.seeded(nets.SizeDependent), "conv", nets.images(2, 15))
    with pytest.raises(TraceError):
        head(nets.images(2, 16))


def test_errors() -> None:
    network = nets.seeded(nets.Several)
    with pytest.raises(UsageError, match="Did you mean 'tail'"):
        truncate(network, "tial", nets.images())
    for layer in ("unused", "pair"):
        with pytest.raises(NotApplicableError, match=f"Layer '{layer}'"):
            truncate(network, layer, nets.images())
        with pytest.raises(NotApplicableError, match=f"Layer '{layer}'"):
            ends_in_activation(network, layer, nets.images())


@pytest.mark.parametrize("make", [nets.Plain, nets.Branching, nets.Raises])
def test_the_network_is_left_alone_also_when_a_pass_fails(make: type[nn.Module]) -> None:
    network = nets.seeded(make).train()
    before = fingerprint(network)
    if make is nets.Raises:
        with pytest.raises(RuntimeError, match="broken network"):
            truncate(network, "bn", nets.images())
    else:
        layer = "bn" if make is nets.Branching else "bn1"
        head = truncate(network, layer, nets.images())
        inside = fingerprint(head)
        with pytest.raises(RuntimeError):
            head(torch.rand(2, 5, 16, 16))
        assert fingerprint(head) == inside
    assert fingerprint(network) == before


def test_a_deepcopied_or_training_network_gives_an_eval_head() -> None:
    network = nets.seeded(nets.Plain)
    expected = value_at(network, "fc", nets.images())
    head = truncate(network.train(), "fc", nets.images())
    torch.testing.assert_close(head(nets.images()), expected)
